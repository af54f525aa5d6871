// What doctor makes of what it sees, by table: no machine here has these faults.
#include "cli/diagnosis.h"

#include <gmock/gmock.h>

namespace lockstep::cli {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kGB = 1'000'000'000;

HostReport healthy_host() {
  HostReport host;
  host.cpu = "a CPU";
  host.cores = host.all_cores = 8;
  host.simd = "AVX3";
  host.memory = host.available = 64 * kGB;
  host.shared_memory = kGB;
  return host;
}

HostReport gpu_host() {
  HostReport host = healthy_host();
  host.nvidia_devices = 2;
  host.driver_files = true;
  return host;
}

GpuReport healthy_gpus(std::size_t count = 2) {
  GpuReport report;
  report.built_in = true;
  report.runtime_version = report.driver_version = "12.9";
  report.driver_release = "575.1";
  GpuInfo gpu;
  gpu.name = "H200";
  gpu.total_bytes = 150 * kGB;
  gpu.free_bytes = 149 * kGB;
  gpu.compute_capability = 90;
  report.gpus.assign(count, gpu);
  report.links.assign(count, std::vector<GpuLink>(count, {"18 NVLinks", true}));
  report.libraries = {{"NCCL", "2.27.3", ""}, {"cuBLASLt", "12.9.1", ""}};
  return report;
}

// Expects one finding, and these words in it.
void expect_finding(const HostReport& host, const GpuReport& gpus, bool broken,
                    const std::string& what, const std::string& cause, const std::string& cure) {
  const std::vector<Finding> findings = diagnose(host, gpus);
  ASSERT_EQ(findings.size(), 1u) << what;
  EXPECT_EQ(findings[0].broken, broken) << what;
  EXPECT_THAT(findings[0].what, HasSubstr(what));
  EXPECT_THAT(findings[0].cause, HasSubstr(cause));
  EXPECT_THAT(findings[0].cure, HasSubstr(cure));
}

TEST(DiagnosisTest, HealthyMachinesHaveNoFindings) {
  EXPECT_THAT(diagnose(healthy_host(), GpuReport{}), IsEmpty());  // no CUDA, no GPU
  EXPECT_THAT(diagnose(gpu_host(), healthy_gpus()), IsEmpty());
  EXPECT_THAT(diagnose(gpu_host(), healthy_gpus(1)), IsEmpty());
  GpuReport none;  // built with CUDA, and the host has no GPU
  none.built_in = true;
  none.error_name = "cudaErrorNoDevice";
  EXPECT_THAT(diagnose(healthy_host(), none), IsEmpty());
}

TEST(DiagnosisTest, WhereOnlyTheCpuMattersGpusDoNot) {
  EXPECT_THAT(diagnose(gpu_host(), std::nullopt), IsEmpty());
}

TEST(DiagnosisTest, AGpuThatTheBuildCannotUse) {
  expect_finding(gpu_host(), {}, true, "cannot use", "without CUDA", "-DLOCKSTEP_CUDA=ON");
}

TEST(DiagnosisTest, CudaThatDoesNotStart) {
  GpuReport report;
  report.built_in = true;
  report.error_text = "words";
  report.error_name = "cudaErrorInsufficientDriver";
  HostReport host = gpu_host();
  host.driver_files = false;
  expect_finding(host, report, true, "words", "not installed", "install the driver");
  expect_finding(gpu_host(), report, true, "words", "libcuda.so.1", "install the driver");
  report.driver_version = "11.4";
  expect_finding(gpu_host(), report, true, "words", "older than the CUDA runtime", "newer");
  for (const auto& [name, cause, cure] : std::vector<std::array<std::string, 3>>{
           {"cudaErrorNoDevice", "visible", "CUDA_VISIBLE_DEVICES"},
           {"cudaErrorSystemNotReady", "NVSwitch", "nvidia-fabricmanager"},
           {"cudaErrorSystemDriverMismatch", "different versions", "restart"},
           {"cudaErrorDevicesUnavailable", "exclusive", "nvidia-smi -c DEFAULT"},
           {"cudaErrorSomethingNew", "cudaErrorSomethingNew", "dmesg"}}) {
    report.error_name = name;
    expect_finding(gpu_host(), report, true, "words", cause, cure);
  }
}

TEST(DiagnosisTest, GpusWithFaults) {
  GpuReport report = healthy_gpus();
  report.gpus[1].compute_capability = 75;
  expect_finding(gpu_host(), report, true, "cuda:1 (H200) is too old", "7.5", "8.0");

  report = healthy_gpus();
  report.gpus[1].prohibited = true;
  report.gpus[1].error = "no";
  expect_finding(gpu_host(), report, true, "cuda:1", "PROHIBITED", "nvidia-smi -i 1 -c DEFAULT");
  report.gpus[1].prohibited = false;
  expect_finding(gpu_host(), report, true, "cannot be used: no", "broken", "dmesg");

  report = healthy_gpus();
  report.gpus[0].free_bytes = 30 * kGB;
  expect_finding(gpu_host(), report, false, "cuda:0 (H200) has 30.00 GB of 150.00 GB free",
                 "other programs", "CUDA_VISIBLE_DEVICES");
  report.gpus[0].others = {{77, 119 * kGB}, {78, kGB}};
  expect_finding(gpu_host(), report, false, "cuda:0",
                 "process 77 (119.00 GB), process 78 (1.00 GB)", "end them");
}

TEST(DiagnosisTest, GpusThatCannotReachEachOther) {
  GpuReport report = healthy_gpus(3);
  report.links[0][2].peer_access = false;
  report.links[2][1].peer_access = false;
  expect_finding(gpu_host(), report, false, "GPUs 0-2, 1-2 cannot reach", "IOMMU", "ACS");
}

TEST(DiagnosisTest, LibrariesAndTheRest) {
  GpuReport report = healthy_gpus();
  report.libraries[0] = {"NCCL", "", "no such file"};
  expect_finding(gpu_host(), report, true, "NCCL cannot be loaded: no such file", "not installed",
                 "libnccl2");
  report = healthy_gpus();
  report.nvml_error = "no libnvidia-ml";
  expect_finding(gpu_host(), report, false, "not known", "no libnvidia-ml", "libnvidia-ml.so.1");
  HostReport host = gpu_host();
  host.shared_memory = 1000;
  expect_finding(host, healthy_gpus(), false, "/dev/shm has 1.00 kB", "64 MB", "--shm-size");
  EXPECT_THAT(diagnose(host, healthy_gpus(1)), IsEmpty());
  host = healthy_host();
  host.simd = "EMU128";
  expect_finding(host, {}, false, "scalar", "AVX2", "CPU");
}

TEST(DiagnosisTest, FailuresWhileMeasuring) {
  EXPECT_THAT(diagnose_failure("it", "NCCL: system error").cure, HasSubstr("NCCL_DEBUG=INFO"));
  EXPECT_THAT(diagnose_failure("it", "rank 1 did not take part in an all_reduce in time").cure,
              HasSubstr("ACS"));
  EXPECT_THAT(diagnose_failure("it", "cuda:0 is out of memory: ...").cause, HasSubstr("memory"));
  EXPECT_THAT(diagnose_failure("it", "anything").what, HasSubstr("it failed: anything"));
}

TEST(DiagnosisTest, ThisHostIsSeen) {
  const HostReport host = report_host();
  EXPECT_GT(host.cores, 0);
  EXPECT_GE(host.all_cores, host.cores);
  EXPECT_FALSE(host.simd.empty());
  EXPECT_GT(host.memory, 0u);
  EXPECT_GT(host.available, 0u);
}

}  // namespace
}  // namespace lockstep::cli
