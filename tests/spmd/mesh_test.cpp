#include "lockstep/mesh.h"

#include <gmock/gmock.h>

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
  const int gpus = cuda_device_count();
  EXPECT_EQ(Mesh::tensor_parallel(gpus + 1).devices()[0].type, DeviceType::kCpu);
  if (gpus > 0) {
    EXPECT_EQ(Mesh::tensor_parallel(gpus).devices()[0].type, DeviceType::kCuda);
  }
}

TEST(Mesh, RefusesImpossibleRequests) {
  for (int world_size : {-1, 0, Mesh::kMaxWorldSize + 1}) {
    EXPECT_THROW(Mesh::tensor_parallel(world_size), Error);
    EXPECT_THROW(Mesh::tensor_parallel(world_size, DeviceType::kCpu), Error);
  }
  EXPECT_NO_THROW(Mesh::tensor_parallel(Mesh::kMaxWorldSize, DeviceType::kCpu));
  try {
    Mesh::tensor_parallel(cuda_device_count() + 1, DeviceType::kCuda);
    ADD_FAILURE() << "more GPUs than there are";
  } catch (const Error& error) {
    // A build without CUDA, a host without a GPU, too few of them.
    EXPECT_THAT(error.what(), testing::AnyOf(testing::HasSubstr("has no CUDA"),
                                             testing::HasSubstr("no CUDA device can be used"),
                                             testing::HasSubstr("need as many GPUs")));
  }
}

}  // namespace
}  // namespace lockstep
