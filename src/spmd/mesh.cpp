#include "lockstep/mesh.h"

#include "core/check.h"
#include "core/ranks_per_gpu.h"
#include "spmd/devices.h"

namespace lockstep {

int max_cuda_ranks() { return cuda_device_count() * ranks_per_gpu(); }

Mesh Mesh::tensor_parallel(int world_size, std::optional<DeviceType> type) {
  check(world_size >= 1 && world_size <= kMaxWorldSize,
        "the number of ranks must be from 1 to {}, not {}", kMaxWorldSize, world_size);
  if (type == DeviceType::kCuda) {
    require_cuda();
    check(max_cuda_ranks() >= world_size, "{} ranks need as many GPUs, but this host has {}",
          world_size, cuda_device_count());
  } else if (!type) {
    type = max_cuda_ranks() >= world_size ? DeviceType::kCuda : DeviceType::kCpu;
  }
  std::vector<Device> devices;
  for (int rank = 0; rank < world_size; ++rank)
    devices.push_back({*type, type == DeviceType::kCuda ? rank % cuda_device_count() : rank});
  return Mesh(std::move(devices));
}

std::string to_string(const Mesh& mesh) {
  const Device first = mesh.devices().front();
  if (first.type == DeviceType::kCpu) return fmt::format("cpu x {}", mesh.world_size());
  if (mesh.world_size() == 1) return to_string(first);
  const int last = mesh.devices().back().index;
  if (last + 1 < mesh.world_size())
    return fmt::format("{} ranks that share GPUs", mesh.world_size());
  return fmt::format("{}..{}", to_string(first), last);
}

}  // namespace lockstep
