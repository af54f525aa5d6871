// NVML, the library behind nvidia-smi, as far as `lockstep doctor` asks it. It comes with the
// driver and is loaded where it is; its header belongs to no package that the build needs, so that
// the few functions are declared here, as NVIDIA documents them ("NVML API Reference Guide").
#pragma once

#include <string>
#include <vector>

#include "ops/cuda/library.h"
#include "spmd/gpu_report.h"

namespace lockstep::cuda {

class Nvml {
 public:
  // Throws Error when the library cannot be loaded or finds no driver.
  Nvml();
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::string driver_release() const;
  // Fills clocks and other processes of the GPU at info.bus_id; leaves what is not known.
  void describe(GpuInfo& info) const;
  // What connects two GPUs, by bus ids: "18 NVLinks", "PCIe switch"; empty when it is not known.
  std::string link(const std::string& a, const std::string& b) const;

 private:
  using Device = void*;
  Device device(const std::string& bus_id) const;  // null: not known
  // Whether it succeeded; an old driver's library may not have the function.
  template <typename... Arguments>
  bool call(const char* function, Arguments... arguments) const {
    try {
      return library_.symbol<int (*)(Arguments...)>(function)(arguments...) == 0;
    } catch (const Error&) {
      return false;
    }
  }

  Library library_;
};

}  // namespace lockstep::cuda
