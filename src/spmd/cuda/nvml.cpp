#include "spmd/cuda/nvml.h"

#include <unistd.h>

#include <array>

namespace lockstep::cuda {
namespace {

// nvmlClockType_t, nvmlGpuP2PCapsIndex_t, nvmlGpuTopologyLevel_t.
constexpr unsigned kClockSm = 1, kClockMemory = 2;
constexpr int kP2pNvlink = 2;
constexpr unsigned kMaxNvlinks = 36;
struct Topology {
  int level;
  const char* name;
};
constexpr std::array<Topology, 6> kTopologies = {{{0, "one board"},
                                                  {10, "PCIe switch"},
                                                  {20, "PCIe switches"},
                                                  {30, "PCIe host bridge"},
                                                  {40, "PCIe, one NUMA node"},
                                                  {50, "PCIe, across NUMA nodes"}}};

// nvmlProcessInfo_t of the functions ending in _v3.
struct ProcessInfo {
  unsigned pid;
  unsigned long long used_memory;
  unsigned gpu_instance, compute_instance;
};

}  // namespace

Nvml::Nvml() : library_({"libnvidia-ml.so.1"}) {
  const int status = library_.symbol<int (*)()>("nvmlInit_v2")();
  if (status == 0) return;
  const char* text = library_.symbol<const char* (*)(int)>("nvmlErrorString")(status);
  fail("NVML: {}", text);
}

Nvml::~Nvml() { library_.symbol<int (*)()>("nvmlShutdown")(); }

std::string Nvml::driver_release() const {
  std::array<char, 96> text{};
  const auto size = static_cast<unsigned>(text.size());
  if (!call("nvmlSystemGetDriverVersion", text.data(), size)) return {};
  return text.data();
}

Nvml::Device Nvml::device(const std::string& bus_id) const {
  Device device = nullptr;
  return call("nvmlDeviceGetHandleByPciBusId_v2", bus_id.c_str(), &device) ? device : nullptr;
}

void Nvml::describe(GpuInfo& info) const {
  const Device gpu = device(info.bus_id);
  if (!gpu) return;
  call("nvmlDeviceGetClockInfo", gpu, kClockSm, &info.clock);
  call("nvmlDeviceGetMaxClockInfo", gpu, kClockSm, &info.max_clock);
  call("nvmlDeviceGetClockInfo", gpu, kClockMemory, &info.memory_clock);
  std::array<ProcessInfo, 64> processes{};
  auto count = static_cast<unsigned>(processes.size());
  if (!call("nvmlDeviceGetComputeRunningProcesses_v3", gpu, &count, processes.data())) return;
  for (unsigned i = 0; i < count && i < processes.size(); ++i) {
    constexpr unsigned long long kUnknown = ~0ull;
    const ProcessInfo& process = processes[i];
    if (process.pid == static_cast<unsigned>(getpid())) continue;
    info.others.push_back({process.pid, process.used_memory == kUnknown ? 0 : process.used_memory});
  }
}

std::string Nvml::link(const std::string& a, const std::string& b) const {
  const Device first = device(a), second = device(b);
  if (!first || !second) return {};
  int status = 1;
  if (call("nvmlDeviceGetP2PStatus", first, second, kP2pNvlink, &status) && status == 0) {
    unsigned links = 0;
    for (unsigned i = 0; i < kMaxNvlinks; ++i) {
      unsigned active = 0;
      if (call("nvmlDeviceGetNvLinkState", first, i, &active) && active == 1) ++links;
    }
    return fmt::format("{} NVLinks", links);
  }
  int level = -1;
  call("nvmlDeviceGetTopologyCommonAncestor", first, second, &level);
  for (const Topology& topology : kTopologies)
    if (topology.level == level) return topology.name;
  return {};
}

}  // namespace lockstep::cuda
