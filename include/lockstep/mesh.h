// Mesh: which devices take part.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lockstep/tensor.h"

namespace lockstep {

// An ordered list of devices, one a rank. A value: cheap to copy, starts nothing.
class Mesh {
 public:
  // `world_size` GPUs where there are as many, otherwise CPU ranks (threads). With `type` given,
  // that or an Error. Throws Error for a world size below 1 or above kMaxWorldSize.
  static Mesh tensor_parallel(int world_size, std::optional<DeviceType> type = std::nullopt);

  static constexpr int kMaxWorldSize = 64;

  int world_size() const { return static_cast<int>(devices_.size()); }
  const std::vector<Device>& devices() const { return devices_; }

 private:
  explicit Mesh(std::vector<Device> devices) : devices_(std::move(devices)) {}
  std::vector<Device> devices_;
};

// "cpu x 4", "cuda:0..3".
std::string to_string(const Mesh& mesh);

}  // namespace lockstep
