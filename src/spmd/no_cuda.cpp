#include "core/check.h"
#include "spmd/devices.h"
#include "spmd/gpu_report.h"

namespace lockstep {
namespace {

[[noreturn]] void fail_without_cuda() {
  fail(
      "this build of Lockstep has no CUDA: use --device cpu, or build it with -DLOCKSTEP_CUDA=ON "
      "where the CUDA toolkit and NCCL are");
}

}  // namespace

int cuda_device_count() { return 0; }

std::vector<std::uint64_t> cuda_free_memory(int) { return {}; }

void require_cuda() { fail_without_cuda(); }

GpuReport report_gpus() { return {}; }

std::unique_ptr<GpuTeam> make_gpu_team(int, bool) { fail_without_cuda(); }

}  // namespace lockstep
