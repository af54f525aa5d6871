#include "lockstep/tensor.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "core/buffer.h"
#include "lockstep/error.h"

namespace lockstep {
namespace {

TEST(Shape, RefusesWhatCannotBe) {
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
  EXPECT_THROW((Shape{2, -1}), Error);
  EXPECT_THROW((Shape{huge, 2}), Error);
  EXPECT_EQ((Shape{huge, 1}).numel(), huge);
  EXPECT_EQ(Shape{}.numel(), 1);
  EXPECT_EQ((Shape{3, 0}).numel(), 0);
  EXPECT_EQ(to_string(Shape{512, 576}), "[512, 576]");
}

TEST(Tensor, RowsAreViews) {
  float values[12];
  for (int i = 0; i < 12; ++i) values[i] = static_cast<float>(i);
  const Tensor tensor{values, DType::kFloat32, {3, 2, 2}, {}};
  const Tensor rows = tensor.rows(1, 3);
  EXPECT_EQ(rows.shape, (Shape{2, 2, 2}));
  EXPECT_EQ(rows.as<float>(), values + 4);
  EXPECT_EQ(rows.bytes(), 8 * sizeof(float));
  EXPECT_EQ(tensor.rows(3, 3).numel(), 0);
  EXPECT_THROW(tensor.rows(1, 4), Error);
  EXPECT_THROW(tensor.rows(-1, 2), Error);
  EXPECT_THROW(tensor.rows(2, 1), Error);
  EXPECT_THROW((Tensor{values, DType::kFloat32, {}, {}}).rows(0, 1), Error);
}

TEST(Buffer, IsZeroedAlignedAndFreed) {
  const Buffer buffer = allocate_host(1000);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
  for (std::size_t i = 0; i < buffer.bytes(); ++i)
    ASSERT_EQ(static_cast<const char*>(buffer.data())[i], 0);
  EXPECT_TRUE(allocate_host(0));
  EXPECT_FALSE(Buffer());
  int freed = 0;
  {
    const Buffer owned(&freed, 4, [](void* memory) { ++*static_cast<int*>(memory); });
  }
  EXPECT_EQ(freed, 1);
}

TEST(Buffer, SaysHowMuchCouldNotBeHad) {
  try {
    allocate_host(std::size_t{1} << 62);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_TRUE(std::strstr(error.what(), "4611686018427387904")) << error.what();
  }
}

}  // namespace
}  // namespace lockstep
