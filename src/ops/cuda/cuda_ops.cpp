#include "ops/cuda/cuda_ops.h"

#include <algorithm>
#include <cstring>

#include "ops/cuda/attention.h"
#include "ops/cuda/checks.h"
#include "ops/cuda/cuda_check.h"

namespace lockstep::cuda {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{2} << 20;
constexpr std::size_t kStagingAlignment = 256;
constexpr std::size_t kMatmulWorkspaceBytes = std::size_t{32} << 20;

Buffer allocate_pinned(std::size_t bytes) {
  void* data = nullptr;
  check_cuda(cudaHostAlloc(&data, bytes, cudaHostAllocPortable));
  return Buffer(data, bytes, [](void* memory) { cudaFreeHost(memory); });
}

}  // namespace

CudaOps::CudaOps(int device, bool deterministic) : device_(device), deterministic_(deterministic) {
  check_cuda(cudaSetDevice(device));
  check_cuda(cudaDeviceGetAttribute(&num_multiprocessors_, cudaDevAttrMultiProcessorCount, device));
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  matmul_ = std::make_unique<Matmul>(allocate(kMatmulWorkspaceBytes));
  attention_scratch_ = allocate(kAttentionScratchBytes);
  attention_words_ = allocate(kAttentionScratchBytes);
  attention_launches_ = allocate(2 * sizeof(unsigned));
  staging_ = allocate_pinned(kStagingBytes);
}

CudaOps::~CudaOps() {
  cudaStreamSynchronize(stream_);
  for (const Stage& stage : stages_)
    if (stage.copied) cudaEventDestroy(stage.copied);
  cudaStreamDestroy(stream_);
}

Buffer CudaOps::allocate(std::size_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, std::max<std::size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: take it back
    std::size_t free_bytes = 0, total_bytes = 0;
    check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes));
    fail(
        "cuda:{} is out of memory: {} bytes were asked for, {} of {} are free; use more ranks "
        "(--tp), a shorter --max-length or a smaller batch",
        device_, bytes, free_bytes, total_bytes);
  }
  check_cuda(status);
  Buffer buffer(data, bytes, [device = device_](void* memory) {
    cudaSetDevice(device);
    cudaFree(memory);
  });
  check_cuda(cudaMemsetAsync(data, 0, bytes, stream_));
  return buffer;
}

void* CudaOps::stage(std::size_t bytes) {
  Stage& stage = stages_[static_cast<std::size_t>(next_stage_)];
  next_stage_ = (next_stage_ + 1) % kStages;
  if (stage.copied)
    check_cuda(cudaEventSynchronize(stage.copied));
  else
    check_cuda(cudaEventCreateWithFlags(&stage.copied, cudaEventDisableTiming));
  if (stage.memory.bytes() < bytes) {
    stage.memory = Buffer();  // first give back, then ask
    stage.memory = allocate_pinned(bytes);
  }
  return stage.memory.data();
}

// The caller's memory, unless it is a stage, is free again when this returns; the copy is enqueued.
void CudaOps::upload(const Tensor& destination, const Tensor& host) {
  check_tensor("upload", "destination", destination, host.dtype, host.shape);
  const auto* from = host.as<const char>();
  auto* to = destination.as<char>();
  for (const Stage& stage : stages_) {
    const auto* begin = static_cast<const char*>(stage.memory.data());
    if (begin == nullptr || from < begin || from >= begin + stage.memory.bytes()) continue;
    check_cuda(cudaMemcpyAsync(to, from, host.bytes(), cudaMemcpyHostToDevice, stream_));
    check_cuda(cudaEventRecord(stage.copied, stream_));
    return;
  }
  for (std::size_t done = 0; done < host.bytes();) {
    if (staged_ == staging_.bytes()) {
      check_cuda(cudaStreamSynchronize(stream_));
      staged_ = 0;
    }
    const std::size_t size = std::min(host.bytes() - done, staging_.bytes() - staged_);
    char* staging = static_cast<char*>(staging_.data()) + staged_;
    std::memcpy(staging, from + done, size);
    check_cuda(cudaMemcpyAsync(to + done, staging, size, cudaMemcpyHostToDevice, stream_));
    staged_ = std::min(staging_.bytes(), (staged_ + size + kStagingAlignment - 1) /
                                             kStagingAlignment * kStagingAlignment);
    done += size;
  }
}

void CudaOps::download(const Tensor& host, const Tensor& source) {
  check_tensor("download", "source", source, host.dtype, host.shape);
  if (host.bytes() > 0)
    check_cuda(
        cudaMemcpyAsync(host.data, source.data, host.bytes(), cudaMemcpyDeviceToHost, stream_));
  synchronize();
}

std::unique_ptr<Download> CudaOps::make_download() {
  class PinnedCopy final : public Download {
   public:
    explicit PinnedCopy(cudaStream_t stream) : stream_(stream) {
      check_cuda(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming));
    }
    ~PinnedCopy() override {
      cudaStreamSynchronize(stream_);
      cudaEventDestroy(done_);
    }

    void start(const Tensor& source) override {
      const std::size_t bytes = source.bytes();
      if (bytes > host_.bytes()) host_ = allocate_pinned(bytes);
      if (bytes > 0)
        check_cuda(
            cudaMemcpyAsync(host_.data(), source.data, bytes, cudaMemcpyDeviceToHost, stream_));
      check_cuda(cudaEventRecord(done_, stream_));
    }

    bool ready() override {
      const cudaError_t status = cudaEventQuery(done_);
      if (status == cudaErrorNotReady) return false;
      check_cuda(status);
      return true;
    }

    const void* data() const override { return host_.data(); }

   private:
    const cudaStream_t stream_;
    cudaEvent_t done_ = nullptr;
    Buffer host_;
  };
  return std::make_unique<PinnedCopy>(stream_);
}

void CudaOps::synchronize() { check_cuda(cudaStreamSynchronize(stream_)); }

}  // namespace lockstep::cuda
