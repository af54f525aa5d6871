// Work on the GPU, recorded as graphs.
#include <map>

#include "core/ranks_per_gpu.h"
#include "ops/cuda/cuda_check.h"
#include "ops/cuda/cuda_ops.h"

namespace lockstep::cuda {
namespace {

class GraphRecorder final : public Recorder {
 public:
  explicit GraphRecorder(cudaStream_t stream) : stream_(stream) {}

  ~GraphRecorder() override {
    cudaStreamSynchronize(stream_);
    for (const auto& [key, graph] : graphs_)
      if (graph) cudaGraphExecDestroy(graph);
  }

  // The first run of a key is an ordinary one: it loads kernels, which cannot be done while a graph
  // is recorded. The second records. Where ranks share GPUs, nothing is: they meet at each
  // exchange.
  void run(std::uint64_t key, const std::function<void()>& work) override {
    if (ranks_share_gpus()) return work();
    const auto [entry, first] = graphs_.emplace(key, nullptr);
    if (first) return work();
    if (!entry->second) entry->second = record(work);
    check_cuda(cudaGraphLaunch(entry->second, stream_));
  }

 private:
  cudaGraphExec_t record(const std::function<void()>& work) {
    check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream_, &graph);
      if (graph) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream_, &graph));
    cudaGraphExec_t executable = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(status);
    return executable;
  }

  cudaStream_t stream_;
  std::map<std::uint64_t, cudaGraphExec_t> graphs_;  // null: run once, not yet recorded
};

}  // namespace

std::unique_ptr<Recorder> CudaOps::make_recorder() {
  return std::make_unique<GraphRecorder>(stream_);
}

}  // namespace lockstep::cuda
