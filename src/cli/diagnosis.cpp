#include "cli/diagnosis.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "core/format_bytes.h"
#include "core/host_memory.h"
#include "ops/cpu/target.h"

namespace lockstep::cli {
namespace {

namespace fs = std::filesystem;

// The oldest GPUs that the kernels are built for.
constexpr int kOldestCapability = 80;

// The value behind `key` in a file of lines "key : value".
std::string field_of(const fs::path& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t value = line.find_first_not_of(" \t", line.find(':') + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return {};
}

int count_nvidia_devices() {
  int count = 0;
  std::error_code error;
  for (const auto& device : fs::directory_iterator("/sys/bus/pci/devices", error)) {
    std::string vendor, kind;
    std::ifstream(device.path() / "vendor") >> vendor;
    std::ifstream(device.path() / "class") >> kind;
    count += vendor == "0x10de" && kind.starts_with("0x03");  // display controllers
  }
  return count;
}

// Causes and cures of what CUDA says when there is no device to be had.
struct CudaFailure {
  const char* name;
  const char* cause;
  const char* cure;
};
constexpr std::array kCudaFailures = {
    CudaFailure{"cudaErrorInsufficientDriver",
                "the driver is older than the CUDA runtime of this build, or there is none",
                "install a newer NVIDIA driver, or build with an older CUDA toolkit"},
    CudaFailure{"cudaErrorNoDevice", "the driver sees no GPU, or none is visible to this process",
                "look at `nvidia-smi -L` and at CUDA_VISIBLE_DEVICES; in a container, start it "
                "with --gpus all"},
    CudaFailure{"cudaErrorSystemNotReady", "the NVSwitch fabric is not running",
                "start it: systemctl start nvidia-fabricmanager, in the driver's own version"},
    CudaFailure{"cudaErrorSystemDriverMismatch",
                "the kernel module and the driver's libraries are of different versions",
                "restart the machine, or load the module of the installed driver"},
    CudaFailure{"cudaErrorCompatNotSupportedOnDevice",
                "the forward compatibility libraries do not support this GPU",
                "take the cuda-compat folder out of LD_LIBRARY_PATH, or install a newer driver"},
    CudaFailure{"cudaErrorDevicesUnavailable",
                "every GPU is in exclusive mode and taken by another process",
                "end that process, or set the mode: nvidia-smi -c DEFAULT"},
    CudaFailure{"cudaErrorMpsConnectionFailed", "the MPS daemon cannot be reached",
                "start nvidia-cuda-mps-control, or unset CUDA_MPS_PIPE_DIRECTORY"},
};

Finding diagnose_cuda(const GpuReport& gpus, const HostReport& host) {
  const std::string what = fmt::format("no GPU can be used: {}", gpus.error_text);
  if (gpus.driver_version.empty())
    return {true, what,
            host.driver_files ? "the driver's libcuda.so.1 is not found"
                              : "the NVIDIA driver is not installed, or its module is not loaded",
            "install the driver (Debian: nvidia-driver) and restart; in a container, start it with "
            "--gpus all"};
  for (const CudaFailure& failure : kCudaFailures)
    if (gpus.error_name == failure.name) return {true, what, failure.cause, failure.cure};
  return {true, what, gpus.error_name, "see whether nvidia-smi works, and the kernel's log: dmesg"};
}

void diagnose_gpu(std::size_t index, const GpuInfo& gpu, std::vector<Finding>& findings) {
  const std::string name = fmt::format("cuda:{} ({})", index, gpu.name);
  if (gpu.prohibited)
    findings.push_back({true, name + " lets nobody use it", "its compute mode is PROHIBITED",
                        fmt::format("nvidia-smi -i {} -c DEFAULT", index)});
  else if (!gpu.error.empty())
    findings.push_back({true, fmt::format("{} cannot be used: {}", name, gpu.error),
                        "it is broken, or taken by a process that wants it for itself",
                        fmt::format("look at nvidia-smi -i {} and dmesg; leave it out with "
                                    "CUDA_VISIBLE_DEVICES",
                                    index)});
  if (gpu.compute_capability > 0 && gpu.compute_capability < kOldestCapability)
    findings.push_back(
        {true, name + " is too old",
         fmt::format("it has compute capability {}.{}", gpu.compute_capability / 10,
                     gpu.compute_capability % 10),
         "use GPUs of compute capability 8.0 (A100, RTX 30) or newer, or --device cpu"});
  // The rest is not this process: contexts take less than a twentieth.
  if (gpu.error.empty() && gpu.free_bytes < gpu.total_bytes - gpu.total_bytes / 20) {
    std::string others;
    for (const GpuProcess& process : gpu.others)
      others += fmt::format("{}process {} ({})", others.empty() ? "" : ", ", process.pid,
                            format_bytes(static_cast<double>(process.bytes)));
    findings.push_back({false,
                        fmt::format("{} has {} of {} free", name,
                                    format_bytes(static_cast<double>(gpu.free_bytes)),
                                    format_bytes(static_cast<double>(gpu.total_bytes))),
                        others.empty() ? "other programs use it" : "it is used by " + others,
                        "end them, or choose other GPUs with CUDA_VISIBLE_DEVICES"});
  }
}

void diagnose_links(const GpuReport& gpus, std::vector<Finding>& findings) {
  std::string pairs;
  for (std::size_t a = 0; a < gpus.links.size(); ++a)
    for (std::size_t b = a + 1; b < gpus.links[a].size(); ++b)
      if (!gpus.links[a][b].peer_access || !gpus.links[b][a].peer_access)
        pairs += fmt::format("{}{}-{}", pairs.empty() ? "" : ", ", a, b);
  if (pairs.empty()) return;
  findings.push_back(
      {false,
       fmt::format("GPUs {} cannot reach each other's memory: all-reduces go through NCCL", pairs),
       "these GPUs do not offer it, or the IOMMU or PCIe access control is in the way",
       "where they have NVLink or one PCIe switch: turn off ACS and the IOMMU in the firmware or "
       "by "
       "iommu=pt, and in a virtual machine pass them through together"});
}

}  // namespace

HostReport report_host() {
  HostReport host;
  host.cpu = field_of("/proc/cpuinfo", "model name");
  host.all_cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  cpu_set_t usable;
  host.cores =
      sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : host.all_cores;
  host.simd = cpu_target();
  host.memory = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  host.available = available_host_memory();
  host.nvidia_devices = count_nvidia_devices();
  host.driver_files = fs::exists("/dev/nvidiactl");
  struct statvfs shared {};
  if (statvfs("/dev/shm", &shared) == 0)
    host.shared_memory = static_cast<std::uint64_t>(shared.f_bavail) * shared.f_frsize;
  return host;
}

std::vector<Finding> diagnose(const HostReport& host, const std::optional<GpuReport>& report) {
  std::vector<Finding> findings;
  if (host.simd == "SCALAR" || host.simd == "EMU128")
    findings.push_back({false, "the CPU runs scalar code, which is many times slower",
                        "it has no AVX2 with FMA and no NEON",
                        "use a CPU with AVX2 (2013 or newer), or a virtual machine that shows it"});
  if (!report) return findings;
  const GpuReport& gpus = *report;
  const bool nvidia = host.nvidia_devices > 0 || host.driver_files;
  if (!gpus.built_in) {
    if (nvidia)
      findings.push_back({true, "this host has an NVIDIA GPU that this build cannot use",
                          "it was built without CUDA",
                          "install the CUDA toolkit and NCCL, and build again with "
                          "-DLOCKSTEP_CUDA=ON, which says what is missing"});
    return findings;
  }
  if (!gpus.error_name.empty()) {
    if (nvidia) findings.push_back(diagnose_cuda(gpus, host));
    return findings;
  }
  for (std::size_t i = 0; i < gpus.gpus.size(); ++i) diagnose_gpu(i, gpus.gpus[i], findings);
  diagnose_links(gpus, findings);
  for (const GpuLibrary& library : gpus.libraries)
    if (!library.error.empty())
      findings.push_back({true, fmt::format("{} cannot be loaded: {}", library.name, library.error),
                          "it is not installed, or not where the loader looks",
                          library.name == "NCCL"
                              ? "install libnccl2, or add its folder to LD_LIBRARY_PATH"
                              : "install the CUDA toolkit's libcublas, or add its folder to "
                                "LD_LIBRARY_PATH"});
  if (!gpus.nvml_error.empty())
    findings.push_back({false, "clocks, links and other processes are not known", gpus.nvml_error,
                        "install the driver's libnvidia-ml.so.1"});
  constexpr std::uint64_t kSharedMemory = std::uint64_t{64} << 20;
  if (gpus.gpus.size() > 1 && host.shared_memory <= kSharedMemory)
    findings.push_back({false,
                        fmt::format("/dev/shm has {} free, and NCCL may need more",
                                    format_bytes(static_cast<double>(host.shared_memory))),
                        "containers get 64 MB by default",
                        "start the container with --ipc=host or --shm-size=1g"});
  return findings;
}

Finding diagnose_failure(const std::string& what, const std::string& error) {
  const auto mentions = [&](const char* text) { return error.find(text) != std::string::npos; };
  if (mentions("out of memory"))
    return {true, fmt::format("{} failed: {}", what, error), "other programs hold the memory",
            "end them, or choose other GPUs with CUDA_VISIBLE_DEVICES"};
  if (mentions("in time") || mentions("did not arrive"))
    return {
        true, fmt::format("{} failed: {}", what, error),
        "the ranks cannot reach each other: the IOMMU or PCIe access control may hold writes up",
        "try with NCCL_P2P_DISABLE=1; turn off ACS and the IOMMU in the firmware"};
  if (mentions("NCCL"))
    return {true, fmt::format("{} failed: {}", what, error), "NCCL says so",
            "run it again with NCCL_DEBUG=INFO, which explains"};
  return {true, fmt::format("{} failed: {}", what, error), "see the message",
          "look at the kernel's log (dmesg) and nvidia-smi"};
}

}  // namespace lockstep::cli
