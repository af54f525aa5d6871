#include "comm/cuda/cuda_comm.h"

#include <nccl.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <source_location>
#include <vector>

#include "comm/cuda/exchange_together.h"
#include "comm/cuda/peer_reduce.h"
#include "core/buffer.h"
#include "core/check.h"
#include "core/log.h"
#include "core/ranks_per_gpu.h"
#include "ops/cuda/cuda_check.h"
#include "ops/cuda/library.h"

namespace lockstep::cuda {
namespace {

const Library& nccl_library() {
  static const Library library({"libnccl.so.2", LOCKSTEP_NCCL_LIBRARY});
  return library;
}
#define NCCL(name) LOCKSTEP_LIBRARY_FUNCTION(nccl_library, name)

void check_nccl(ncclResult_t status, std::source_location where = std::source_location::current()) {
  check(status == ncclSuccess, "NCCL: {} at cuda_comm.cpp:{}", NCCL(ncclGetErrorString)(status),
        where.line());
}

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kFloat16:
      return ncclFloat16;
    case DType::kInt32:
      return ncclInt32;
    case DType::kInt64:
      return ncclInt64;
    case DType::kUInt8:
      return ncclUint8;
  }
  fail("NCCL has no {}", name_of(dtype));
}

ncclRedOp_t nccl_op(ReduceOp op) {
  return op == ReduceOp::kSum ? ncclSum : op == ReduceOp::kMax ? ncclMax : ncclMin;
}

Buffer allocate_zeroed(std::size_t bytes) {
  void* data = nullptr;
  check_cuda(cudaMalloc(&data, bytes));
  Buffer buffer(data, bytes, [](void* memory) { cudaFree(memory); });
  check_cuda(cudaMemset(data, 0, bytes));
  return buffer;
}

}  // namespace

std::string nccl_version() {
  int version = 0;
  check_nccl(NCCL(ncclGetVersion)(&version));
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

class CudaGroup {
 public:
  CudaGroup(int world_size, const CudaCommOptions& its_options)
      : options(its_options),
        devices(static_cast<std::size_t>(world_size)),
        received(static_cast<std::size_t>(world_size)),
        comms(static_cast<std::size_t>(world_size)) {
    void* word = nullptr;
    check_cuda(
        cudaHostAlloc(&word, sizeof(std::uint32_t), cudaHostAllocPortable | cudaHostAllocMapped));
    std::memset(word, 0, sizeof(std::uint32_t));
    abort_word_ = Buffer(word, sizeof(std::uint32_t), [](void* memory) { cudaFreeHost(memory); });
  }

  volatile std::uint32_t* abort_word() const {
    return static_cast<volatile std::uint32_t*>(abort_word_.data());
  }

  // Ends every wait of every rank. The first reason stays.
  void abort(const std::string& reason) {
    const std::lock_guard lock(mutex);
    if (!reason_.empty()) return;
    reason_ = reason;
    *abort_word() = ~0u;
    for (ncclComm_t& comm : comms)
      if (comm) NCCL(ncclCommAbort)(std::exchange(comm, nullptr));
  }

  void throw_if_aborted() {
    const std::lock_guard lock(mutex);
    if (!reason_.empty()) fail("{}", reason_);
    const std::uint32_t missing = *abort_word();
    if (missing != 0) fail("rank {} did not take part in an all_reduce in time", missing - 1);
  }

  const CudaCommOptions options;
  std::vector<int> devices;              // by rank
  std::vector<std::uint64_t*> received;  // by rank
  ncclUniqueId id{};
  std::mutex mutex;
  std::vector<ncclComm_t> comms;  // by rank; null: none, or aborted

 private:
  Buffer abort_word_;
  std::string reason_;  // guarded by mutex
};

namespace {

class CudaComm final : public Comm {
 public:
  CudaComm(std::shared_ptr<CudaGroup> group, Comm& host, cudaStream_t stream)
      : group_(std::move(group)),
        host_(host),
        rank_(host_.rank()),
        world_size_(host_.world_size()),
        stream_(stream) {
    if (world_size_ == 1) return;
    start_peers();
    if (!peers_) start_nccl();
  }

  ~CudaComm() override {
    const std::lock_guard lock(group_->mutex);
    ncclComm_t& comm = group_->comms[static_cast<std::size_t>(rank_)];
    if (comm) NCCL(ncclCommAbort)(std::exchange(comm, nullptr));  // nothing is in flight any more
  }

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  const PeerGroup* peers() const { return peers_ ? &peer_group_ : nullptr; }

  void all_reduce(const Tensor& data, ReduceOp op) override {
    if (world_size_ == 1 || data.numel() == 0) return;
    const bool sum = op == ReduceOp::kSum && data.dtype == DType::kFloat32;
    const bool largest = op == ReduceOp::kMax && data.dtype == DType::kInt64;
    if (sum && peers_ &&
        (data.numel() <= kPeerElements || group_->options.deterministic || ranks_share_gpus())) {
      exchange(peer_sum, data.as<float>(), data.numel());
    } else if (largest && peers_ && (data.numel() <= kPeerElements / 2 || ranks_share_gpus())) {
      exchange(peer_max, data.as<std::int64_t>(), data.numel());
    } else {
      check_nccl(NCCL(ncclAllReduce)(data.data, data.data, static_cast<std::size_t>(data.numel()),
                                     nccl_type(data.dtype), nccl_op(op), nccl(), stream_));
    }
  }

  void all_gather(const Tensor& out, const Tensor& in) override {
    check(out.dtype == in.dtype && out.numel() == world_size_ * in.numel(),
          "all_gather: {} ranks' {} do not make {}", world_size_, to_string(in.shape),
          to_string(out.shape));
    if (in.numel() == 0) return;
    if (world_size_ == 1) {
      if (out.data != in.data)
        check_cuda(
            cudaMemcpyAsync(out.data, in.data, in.bytes(), cudaMemcpyDeviceToDevice, stream_));
      return;
    }
    if (ranks_share_gpus()) {
      char* const mine = out.as<char>() + static_cast<std::size_t>(rank_) * in.bytes();
      if (mine != in.data)
        check_cuda(cudaMemcpyAsync(mine, in.data, in.bytes(), cudaMemcpyDeviceToDevice, stream_));
      return combine(out, mine, in.bytes());
    }
    check_nccl(NCCL(ncclAllGather)(in.data, out.data, static_cast<std::size_t>(in.numel()),
                                   nccl_type(in.dtype), nccl(), stream_));
  }

  void broadcast(const Tensor& data, int root) override {
    check(root >= 0 && root < world_size_, "broadcast from rank {} of {}", root, world_size_);
    if (world_size_ == 1 || data.numel() == 0) return;
    if (ranks_share_gpus()) return combine(data, data.as<char>(), rank_ == root ? data.bytes() : 0);
    check_nccl(NCCL(ncclBroadcast)(data.data, data.data, static_cast<std::size_t>(data.numel()),
                                   nccl_type(data.dtype), root, nccl(), stream_));
  }

  void barrier() override {
    check_cuda(cudaStreamSynchronize(stream_));
    group_->throw_if_aborted();
    host_.barrier();
  }

  void abort(const std::string& reason) override {
    group_->abort(reason);
    host_.abort(reason);
  }

  void throw_if_aborted() const override { group_->throw_if_aborted(); }

  void reset() override {}  // what a GPU was doing when its group was aborted cannot be undone

  std::unique_ptr<Comm> split(std::span<const std::vector<int>>) override {
    fail("sub-groups of GPU ranks are not supported");
  }

 private:
  // In as many exchanges as it takes; `reduce` is peer_sum or one of its kind.
  template <typename T>
  void exchange(void (*reduce)(const PeerGroup&, T*, std::int64_t, cudaStream_t), T* data,
                std::int64_t count) {
    constexpr std::int64_t kUnit = kPeerUnit * 2 * sizeof(float) / sizeof(T);  // elements
    const std::int64_t most =
        (ranks_share_gpus() ? kMaxWaitingBlocks : kPeerElements / 2 / kPeerUnit) * kUnit;
    exchange_together(*this, [&] {
      for (std::int64_t at = 0; at < count; at += most)
        reduce(peer_group_, data + at, std::min(most, count - at), stream_);
    });
  }

  // Puts together what each rank has of `data`, itself the bytes from `mine` on, without NCCL.
  void combine(const Tensor& data, char* mine, std::size_t bytes) {
    check(data.bytes() % 4 == 0,
          "ranks that share GPUs (LOCKSTEP_RANKS_PER_GPU) cannot exchange {} bytes", data.bytes());
    const auto clear = [&](char* begin, char* end) {
      if (begin != end)
        check_cuda(cudaMemsetAsync(begin, 0, static_cast<std::size_t>(end - begin), stream_));
    };
    clear(data.as<char>(), mine);
    clear(mine + bytes, data.as<char>() + data.bytes());
    exchange(peer_or, data.as<std::uint32_t>(), static_cast<std::int64_t>(data.bytes() / 4));
  }

  // Started by the first collective that needs it, on all ranks alike: it takes a second, and short
  // prompts never need it.
  ncclComm_t nccl() {
    const auto current = [&] {
      const std::lock_guard lock(group_->mutex);
      return group_->comms[static_cast<std::size_t>(rank_)];
    };
    if (current() == nullptr) {
      group_->throw_if_aborted();
      start_nccl();
    }
    const ncclComm_t comm = current();
    check(comm != nullptr, "the ranks were aborted");
    return comm;
  }

  void start_nccl() {
    check(!ranks_share_gpus(),
          "NCCL takes no two ranks on one GPU (LOCKSTEP_RANKS_PER_GPU): up to {} ranks can share "
          "GPUs that reach each other's memory, for sums of float32 and the largest of int64",
          kMaxPeers);
    if (rank_ == 0) check_nccl(NCCL(ncclGetUniqueId)(&group_->id));
    host_.barrier();
    ncclComm_t comm = nullptr;
    check_nccl(NCCL(ncclCommInitRank)(&comm, world_size_, group_->id, rank_));
    const std::lock_guard lock(group_->mutex);
    group_->comms[static_cast<std::size_t>(rank_)] = comm;
  }

  // Lets every GPU write into every other's receive buffer, where the hardware can.
  void start_peers() {
    const auto self = static_cast<std::size_t>(rank_);
    check_cuda(cudaGetDevice(&group_->devices[self]));
    host_.barrier();
    int reachable = world_size_ <= kMaxPeers;
    for (int device : group_->devices) {
      if (device == group_->devices[self] || !reachable) continue;
      check_cuda(cudaDeviceCanAccessPeer(&reachable, group_->devices[self], device));
      if (!reachable) continue;
      const cudaError_t status = cudaDeviceEnablePeerAccess(device, 0);
      if (status == cudaErrorPeerAccessAlreadyEnabled)
        cudaGetLastError();
      else
        check_cuda(status);
    }
    Tensor everywhere{&reachable, DType::kInt32, {1}, Device{}};
    host_.all_reduce(everywhere, ReduceOp::kMin);
    peers_ = reachable != 0;
    if (rank_ == 0)
      logger().info("all-reduce of up to {} values: {}", kPeerElements,
                    peers_ ? "directly between the GPUs" : "through NCCL (no peer access)");
    if (!peers_) return;
    // The second half of each is for exchanges of rows.
    received_ = allocate_zeroed(2 * peer_buffer_bytes(world_size_));
    exchanges_ = allocate_zeroed(peer_exchange_bytes() + 2 * sizeof(std::uint32_t));
    group_->received[self] = static_cast<std::uint64_t*>(received_.data());
    check_cuda(cudaDeviceSynchronize());
    host_.barrier();
    peer_group_.rank = rank_;
    peer_group_.world_size = world_size_;
    std::copy(group_->received.begin(), group_->received.end(), peer_group_.received);
    peer_group_.exchanges = static_cast<std::uint32_t*>(exchanges_.data());
    ResidualExchange& residual = peer_group_.residual;
    residual.rank = rank_;
    residual.world_size = world_size_;
    for (std::size_t i = 0; i < group_->received.size(); ++i)
      residual.received[i] =
          group_->received[i] + peer_buffer_bytes(world_size_) / sizeof(std::uint64_t);
    residual.last = peer_group_.exchanges + peer_exchange_bytes() / sizeof(std::uint32_t);
    residual.current = residual.last + 1;
    peer_group_.abort = group_->abort_word();
    peer_group_.timeout_ns =
        static_cast<std::uint64_t>(std::chrono::nanoseconds(group_->options.timeout).count());
  }

  const std::shared_ptr<CudaGroup> group_;
  Comm& host_;
  const int rank_;
  const int world_size_;
  const cudaStream_t stream_;
  bool peers_ = false;
  Buffer received_;
  Buffer exchanges_;
  PeerGroup peer_group_;
};

}  // namespace

std::shared_ptr<CudaGroup> make_cuda_group(int world_size, const CudaCommOptions& options) {
  return std::make_shared<CudaGroup>(world_size, options);
}

std::unique_ptr<Comm> make_cuda_comm(std::shared_ptr<CudaGroup> group, Comm& host,
                                     cudaStream_t stream) {
  return std::make_unique<CudaComm>(std::move(group), host, stream);
}

const PeerGroup* peer_group(const Comm& comm) {
  return dynamic_cast<const CudaComm&>(comm).peers();
}

}  // namespace lockstep::cuda
