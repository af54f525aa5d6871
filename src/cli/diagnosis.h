// What is wrong with a machine, why, and how to mend it: judged from what was seen on it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spmd/gpu_report.h"

namespace lockstep::cli {

struct HostReport {
  std::string cpu;                          // the model's name
  int cores = 0;                            // that this process may use
  int all_cores = 0;                        // of the machine
  std::string simd;                         // cpu_target()
  std::uint64_t memory = 0, available = 0;  // bytes; available to this process
  int nvidia_devices = 0;                   // GPUs of NVIDIA on the PCI bus, usable or not
  bool driver_files = false;                // /dev/nvidiactl is there
  std::uint64_t shared_memory = 0;          // bytes free in /dev/shm
};

HostReport report_host();

struct Finding {
  bool broken = true;  // otherwise worth knowing
  std::string what, cause, cure;
};

// Without a GpuReport: of the host alone.
std::vector<Finding> diagnose(const HostReport& host, const std::optional<GpuReport>& gpus);

// Of an error while measuring.
Finding diagnose_failure(const std::string& what, const std::string& error);

}  // namespace lockstep::cli
