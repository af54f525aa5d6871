#include "lockstep/mesh.h"

#include <gmock/gmock.h>

#include "core/ranks_per_gpu.h"
#include "lockstep/error.h"
#include "spmd/devices.h"

namespace lockstep {
namespace {

TEST(Mesh, CpuRanksWhenAskedFor) {
  const Mesh mesh = Mesh::tensor_parallel(4, DeviceType::kCpu);
  EXPECT_EQ(mesh.world_size(), 4);
  for (int rank = 0; rank < 4; ++rank)
    EXPECT_EQ(mesh.devices()[static_cast<std::size_t>(rank)], (Device{DeviceType::kCpu, rank}));
  EXPECT_EQ(to_string(mesh), "cpu x 4");
}

TEST(Mesh, GpusWhereThereAreAsManyOtherwiseCpuRanks) {
  const int most = max_cuda_ranks();
  EXPECT_EQ(Mesh::tensor_parallel(most + 1).devices()[0].type, DeviceType::kCpu);
  if (most == 0) return;
  const Mesh mesh = Mesh::tensor_parallel(most);
  for (int rank = 0; rank < most; ++rank)
    EXPECT_EQ(mesh.devices()[static_cast<std::size_t>(rank)],
              (Device{DeviceType::kCuda, rank % cuda_device_count()}));
}

TEST(Mesh, RefusesImpossibleRequests) {
  for (int world_size : {-1, 0, Mesh::kMaxWorldSize + 1}) {
    EXPECT_THROW(Mesh::tensor_parallel(world_size), Error);
    EXPECT_THROW(Mesh::tensor_parallel(world_size, DeviceType::kCpu), Error);
  }
  EXPECT_NO_THROW(Mesh::tensor_parallel(Mesh::kMaxWorldSize, DeviceType::kCpu));
  try {
    Mesh::tensor_parallel(max_cuda_ranks() + 1, DeviceType::kCuda);
    ADD_FAILURE() << "more GPUs than there are";
  } catch (const Error& error) {
    // A build without CUDA, a host without a GPU, too few of them.
    EXPECT_THAT(error.what(), testing::AnyOf(testing::HasSubstr("has no CUDA"),
                                             testing::HasSubstr("no CUDA device can be used"),
                                             testing::HasSubstr("need as many GPUs")));
  }
}

TEST(RanksPerGpu, IsANumberFromOneToEight) {
  EXPECT_EQ(parse_ranks_per_gpu(nullptr), 1);
  EXPECT_EQ(parse_ranks_per_gpu("1"), 1);
  EXPECT_EQ(parse_ranks_per_gpu("8"), 8);
  for (const char* bad : {"", "0", "9", "x", "-1", "10", "2 "}) {
    try {
      parse_ranks_per_gpu(bad);
      ADD_FAILURE() << "taken: " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), "LOCKSTEP_RANKS_PER_GPU must be a number from 1 to 8, not \"" +
                                  std::string(bad) + "\"");
    }
  }
}

}  // namespace
}  // namespace lockstep
