#include "comm/tree_reduce.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <type_traits>

#include "core/check.h"
#include "core/convert.h"

namespace lockstep {
namespace {

// How an element is stored, and in what it is combined.
template <typename T>
struct Plain {
  using Stored = T;
  using Sum = T;
  static T load(T value) { return value; }
  static T store(T value) { return value; }
};
struct BFloat16 {
  using Stored = std::uint16_t;
  using Sum = float;
  static float load(std::uint16_t bits) { return bfloat16_to_float(bits); }
  static std::uint16_t store(float value) { return float_to_bfloat16(value); }
};
struct Float16 {
  using Stored = std::uint16_t;
  using Sum = float;
  static float load(std::uint16_t bits) { return float16_to_float(bits); }
  static std::uint16_t store(float value) { return float_to_float16(value); }
};

template <ReduceOp op, typename T>
T combine(T a, T b) {
  if constexpr (op == ReduceOp::kSum) {
    if constexpr (std::is_integral_v<T>) {
      using Wrapping = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Wrapping>(a) + static_cast<Wrapping>(b));
    } else {
      return a + b;
    }
  } else {
    const T chosen = op == ReduceOp::kMax ? (a > b ? a : b) : (a < b ? a : b);  // b if one is NaN
    return a != a ? a : chosen;
  }
}

// Elements that are combined at a time: a path down the tree stays in the first-level cache.
constexpr std::int64_t kBlock = 512;
constexpr int kMaxDepth = 8;  // 2^8 ranks

// result[i] = the tree over `sources`, elements [begin, begin + size), size <= kBlock. `scratch`
// has room for kBlock elements a level of the tree.
template <typename Element, ReduceOp op>
void reduce_block(std::span<const std::byte* const> sources, std::int64_t begin, std::int64_t size,
                  typename Element::Sum* result, typename Element::Sum* scratch) {
  const auto elements = [&](std::size_t rank) {
    return reinterpret_cast<const typename Element::Stored*>(sources[rank]) + begin;
  };
  if (sources.size() == 1) {
    const auto* a = elements(0);
    for (std::int64_t i = 0; i < size; ++i) result[i] = Element::load(a[i]);
  } else if (sources.size() == 2) {
    const auto* a = elements(0);
    const auto* b = elements(1);
    for (std::int64_t i = 0; i < size; ++i)
      result[i] = combine<op>(Element::load(a[i]), Element::load(b[i]));
  } else {
    const std::size_t left = std::bit_floor(sources.size() - 1);
    reduce_block<Element, op>(sources.first(left), begin, size, result, scratch);
    reduce_block<Element, op>(sources.subspan(left), begin, size, scratch, scratch + kBlock);
    for (std::int64_t i = 0; i < size; ++i) result[i] = combine<op>(result[i], scratch[i]);
  }
}

template <typename Element, ReduceOp op>
void reduce(std::span<const std::byte* const> sources, std::span<std::byte* const> destinations,
            std::int64_t begin, std::int64_t end) {
  using Stored = typename Element::Stored;
  alignas(64) std::array<typename Element::Sum, kBlock * kMaxDepth> sums;
  alignas(64) std::array<Stored, kBlock> rounded;
  for (std::int64_t at = begin; at < end; at += kBlock) {
    const std::int64_t size = std::min(kBlock, end - at);
    reduce_block<Element, op>(sources, at, size, sums.data(), sums.data() + kBlock);
    for (std::int64_t i = 0; i < size; ++i)
      rounded[static_cast<std::size_t>(i)] = Element::store(sums[static_cast<std::size_t>(i)]);
    for (std::byte* destination : destinations)
      std::memcpy(destination + static_cast<std::size_t>(at) * sizeof(Stored), rounded.data(),
                  static_cast<std::size_t>(size) * sizeof(Stored));
  }
}

template <typename Element>
void reduce(ReduceOp op, std::span<const std::byte* const> sources,
            std::span<std::byte* const> destinations, std::int64_t begin, std::int64_t end) {
  switch (op) {
    case ReduceOp::kSum:
      return reduce<Element, ReduceOp::kSum>(sources, destinations, begin, end);
    case ReduceOp::kMax:
      return reduce<Element, ReduceOp::kMax>(sources, destinations, begin, end);
    case ReduceOp::kMin:
      return reduce<Element, ReduceOp::kMin>(sources, destinations, begin, end);
  }
  fail("unknown reduction {}", static_cast<int>(op));
}

}  // namespace

bool can_reduce(DType dtype) { return dtype != DType::kUInt8; }

void tree_reduce(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, std::int64_t begin, std::int64_t end) {
  check(std::bit_width(sources.size()) <= kMaxDepth, "cannot reduce over {} ranks", sources.size());
  switch (dtype) {
    case DType::kFloat32:
      return reduce<Plain<float>>(op, sources, destinations, begin, end);
    case DType::kBFloat16:
      return reduce<BFloat16>(op, sources, destinations, begin, end);
    case DType::kFloat16:
      return reduce<Float16>(op, sources, destinations, begin, end);
    case DType::kInt32:
      return reduce<Plain<std::int32_t>>(op, sources, destinations, begin, end);
    case DType::kInt64:
      return reduce<Plain<std::int64_t>>(op, sources, destinations, begin, end);
    case DType::kUInt8:
      break;
  }
  fail("cannot reduce {}", name_of(dtype));
}

}  // namespace lockstep
