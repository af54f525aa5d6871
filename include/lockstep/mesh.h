/// @file
/// Mesh: which devices take part.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lockstep/export.h"
#include "lockstep/tensor.h"

namespace lockstep {

/// An ordered list of devices, one a rank. A value: cheap to copy, starts nothing.
class LOCKSTEP_API Mesh {
 public:
  /// `world_size` ranks: GPUs 0, 1, ... where there are as many, otherwise CPU ranks (threads).
  /// With `type` given, that or an Error. Throws Error for a world size below 1 or above
  /// kMaxWorldSize.
  static Mesh tensor_parallel(int world_size, std::optional<DeviceType> type = std::nullopt);

  /// The most ranks that a mesh can have.
  static constexpr int kMaxWorldSize = 64;

  /// Number of ranks.
  int world_size() const { return static_cast<int>(devices_.size()); }
  /// Rank r runs on devices()[r].
  const std::vector<Device>& devices() const { return devices_; }

 private:
  explicit Mesh(std::vector<Device> devices) : devices_(std::move(devices)) {}
  std::vector<Device> devices_;
};

/// "cpu x 4", "cuda:0..3".
LOCKSTEP_API std::string to_string(const Mesh& mesh);

}  // namespace lockstep
