// The merge loop of byte-pair encoding. Stateless; thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <tuple>
#include <vector>

namespace lockstep {

// A part of a word, in a doubly linked list over positions. `length` 0: it was merged into another.
struct Symbol {
  std::int32_t id = -1;     // -1: no token of its own
  std::uint32_t begin = 0;  // bytes of the word
  std::uint32_t length = 0;
  std::int32_t previous = -1;
  std::int32_t next = -1;
};

struct Merge {
  std::int32_t rank = -1;  // lower ranks merge first; -1: the two do not merge
  std::int32_t id = -1;    // the token they become
};

// Merges neighbours, lowest rank first and leftmost among equals, until no two merge, in O(n log
// n). `find_merge(left, right)` says what two symbols become. Symbols must be linked in order;
// those that are left have a length.
template <typename FindMerge>
void merge_symbols(std::vector<Symbol>& symbols, const FindMerge& find_merge) {
  struct Candidate {
    std::int32_t rank;
    std::int32_t left;
    std::int32_t id;
    bool operator>(const Candidate& other) const {
      return std::tie(rank, left) > std::tie(other.rank, other.left);
    }
  };
  const auto at = [&](std::int32_t i) -> Symbol& { return symbols[static_cast<std::size_t>(i)]; };
  std::vector<Candidate> heap;
  const auto consider = [&](std::int32_t left) {
    if (left < 0 || at(left).next < 0) return;
    const Merge merge = find_merge(at(left), at(at(left).next));
    if (merge.rank < 0) return;
    heap.push_back({merge.rank, left, merge.id});
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<std::int32_t>(i));
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = at(best.left);
    if (left.length == 0 || left.next < 0) continue;
    Symbol& right = at(left.next);
    // A merge that happened since may have changed either.
    if (const Merge now = find_merge(left, right); now.rank < 0 || now.id != best.id) continue;
    left.id = best.id;
    left.length += right.length;
    right.length = 0;
    left.next = right.next;
    if (left.next >= 0) at(left.next).previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
}

// Links symbols that stand in order.
inline void link_symbols(std::vector<Symbol>& symbols) {
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<std::int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<std::int32_t>(i + 1) : -1;
  }
}

}  // namespace lockstep
