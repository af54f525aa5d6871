// What GPUs this host has and what connects them, for `lockstep doctor`. A build without CUDA
// compiles no_cuda.cpp for the answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

struct GpuProcess {
  unsigned pid = 0;
  std::uint64_t bytes = 0;
};

struct GpuInfo {
  std::string name;
  std::string bus_id;  // of PCI: "0000:3b:00.0"
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
  int compute_capability = 0;  // 10 * major + minor
  int multiprocessors = 0;
  bool prohibited = false;  // its compute mode lets nobody use it
  // MHz, now and at most; 0: not known.
  unsigned clock = 0, max_clock = 0, memory_clock = 0;
  std::vector<GpuProcess> others;  // other processes that use it, as far as NVML tells
  std::string error;               // why it cannot be used; empty: it can
};

struct GpuLink {
  std::string kind;          // "18 NVLinks", "PCIe switch", ...; empty: not known
  bool peer_access = false;  // the row's GPU can write into the column's memory
};

// A library that is loaded when the first GPU rank starts.
struct GpuLibrary {
  std::string name;
  std::string version;
  std::string error;  // why it cannot be loaded; empty: it can
};

struct GpuReport {
  bool built_in = false;  // this build has CUDA
  // "12.9"; of the driver: the newest CUDA that it runs. Empty: there is none.
  std::string runtime_version, driver_version;
  std::string driver_release;  // "570.86.15", from NVML; empty: not known
  std::string nvml_error;      // why NVML tells nothing; empty: it does
  // What asking for devices ended with, unless it succeeded: "cudaErrorNoDevice" and CUDA's words.
  std::string error_name, error_text;
  std::vector<GpuInfo> gpus;
  std::vector<std::vector<GpuLink>> links;  // [gpu][gpu]
  std::vector<GpuLibrary> libraries;
};

// Looks; starts a CUDA context on every GPU, measures nothing, throws nothing for what is broken.
GpuReport report_gpus();

}  // namespace lockstep
