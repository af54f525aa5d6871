#include "core/check.h"
#include "spmd/devices.h"
#include "spmd/gpu_report.h"

namespace lockstep {

int cuda_device_count() { return 0; }

std::vector<std::uint64_t> cuda_free_memory(int) { return {}; }

void require_cuda() { fail("this build of Lockstep has no CUDA"); }

GpuReport report_gpus() { return {}; }

std::unique_ptr<GpuTeam> make_gpu_team(int, bool) { fail("this build of Lockstep has no CUDA"); }

}  // namespace lockstep
