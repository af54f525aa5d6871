// Tokens by id and ids by token. Filled by a loader, immutable and thread-safe from then on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lockstep {

// Lets a table of strings be searched for a string_view.
struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>()(text);
  }
};

class Vocabulary {
 public:
  // `source` (a file's name) is named in errors. `num_entries`: how many tokens the file lists; the
  // largest id may not be out of all proportion to it.
  Vocabulary(std::string source, std::size_t num_entries);

  // Adds a token that encoding can produce. Throws Error for an id or a token that is already there
  // or an id out of range.
  void add(std::string_view token, std::int32_t id);
  // Adds an added token, which add() may have added before under the same id.
  void add_added(std::string_view token, std::int32_t id, bool special);

  // Makes size() at least `size`, for ids at the end that no token has.
  void extend(std::int32_t size);

  std::int32_t size() const { return static_cast<std::int32_t>(entries_.size()); }  // max id + 1
  bool contains(std::int32_t id) const {
    return id >= 0 && id < size() && entries_[static_cast<std::size_t>(id)].present;
  }
  // Empty for an id that no token has. Throws Error for one that is not in [0, size()).
  const std::string& token(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
  bool is_added(std::int32_t id) const;
  // -1 when there is no such token.
  std::int32_t find(std::string_view token) const;
  // The same, without tokens that only add_added() knows.
  std::int32_t find_encodable(std::string_view token) const;
  const std::string& source() const { return source_; }

 private:
  struct Entry {
    std::string token;
    bool present = false;
    bool encodable = false;
    bool added = false;
    bool special = false;
  };
  Entry& insert(std::string_view token, std::int32_t id);
  const Entry& entry(std::int32_t id) const;

  std::string source_;
  std::size_t max_size_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>> ids_;
};

}  // namespace lockstep
