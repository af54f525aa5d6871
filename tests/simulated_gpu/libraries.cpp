// cuBLASLt and NCCL, as far as the CUDA backend uses them.
#include <cublasLt.h>
#include <nccl.h>

#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "core/convert.h"
#include "simulated_gpu/simulator.h"

namespace {

// The two types of 16 bits have different names in both libraries.
enum class Float { k32, kBrain, k16 };

float load(const void* from, std::size_t index, Float type) {
  if (type == Float::k32) return static_cast<const float*>(from)[index];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(from)[index];
  return type == Float::kBrain ? lockstep::bfloat16_to_float(bits)
                               : lockstep::float16_to_float(bits);
}
void store(void* to, std::size_t index, Float type, float value) {
  if (type == Float::k32)
    static_cast<float*>(to)[index] = value;
  else
    static_cast<std::uint16_t*>(to)[index] = type == Float::kBrain
                                                 ? lockstep::float_to_bfloat16(value)
                                                 : lockstep::float_to_float16(value);
}

struct Layout {
  Float type;
  std::size_t rows, columns, leading;  // column-major
};

// `count` columns of `size` elements as float32, one behind the other.
std::vector<float> columns_of(const void* data, const Layout& layout, std::size_t size,
                              std::size_t count) {
  std::vector<float> values(size * count);
  for (std::size_t column = 0; column < count; ++column)
    for (std::size_t row = 0; row < size; ++row)
      values[column * size + row] = load(data, column * layout.leading + row, layout.type);
  return values;
}

// d = a^T b.
void multiply(const void* a, const Layout& of_a, const void* b, const Layout& of_b, void* d,
              const Layout& of_d) {
  const std::size_t depth = of_a.rows;
  const auto left = columns_of(a, of_a, depth, of_a.columns);
  const auto right = columns_of(b, of_b, depth, of_b.columns);
  for (std::size_t column = 0; column < of_d.columns; ++column)
    for (std::size_t row = 0; row < of_d.rows; ++row) {
      constexpr std::size_t kTogether = 16;
      float sums[kTogether] = {};
      const float *x = left.data() + row * depth, *y = right.data() + column * depth;
      std::size_t k = 0;
      for (; k + kTogether <= depth; k += kTogether)
        for (std::size_t i = 0; i < kTogether; ++i) sums[i] += x[k + i] * y[k + i];
      for (; k < depth; ++k) sums[0] += x[k] * y[k];
      float sum = 0;
      for (float part : sums) sum += part;
      store(d, column * of_d.leading + row, of_d.type, sum);
    }
}

// What the communicators of one id share. A collective is done by the last rank that gets there.
struct Group {
  explicit Group(int its_size) : size(its_size), buffers(static_cast<std::size_t>(its_size)) {}

  struct Buffers {
    const void* from = nullptr;
    void* to = nullptr;
  };

  template <typename Collective>
  void meet(int rank, const Buffers& mine, const Collective& collective) {
    std::unique_lock lock(mutex);
    const int turn = turns;
    buffers[static_cast<std::size_t>(rank)] = mine;
    if (++arrived == size) {
      collective(buffers);
      arrived = 0;
      ++turns;
      changed.notify_all();
    }
    changed.wait(lock, [&] { return turns != turn || aborted; });
  }

  void abort() {
    {
      const std::lock_guard lock(mutex);
      aborted = true;
    }
    changed.notify_all();
  }

  const int size;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Buffers> buffers;
  int arrived = 0, turns = 0;
  bool aborted = false;
};

std::mutex groups_mutex;
std::map<int, std::weak_ptr<Group>> groups;  // by id

template <typename T>
void reduce(std::vector<T>& sums, const T* values, ncclRedOp_t op) {
  for (std::size_t i = 0; i < sums.size(); ++i)
    sums[i] = op == ncclSum   ? sums[i] + values[i]
              : op == ncclMax ? std::max(sums[i], values[i])
                              : std::min(sums[i], values[i]);
}

template <typename T>
void all_reduce(const std::vector<Group::Buffers>& buffers, std::size_t count, ncclRedOp_t op) {
  const auto values_of = [&](const Group::Buffers& buffer) {
    return static_cast<const T*>(buffer.from);
  };
  std::vector<T> sums(values_of(buffers[0]), values_of(buffers[0]) + count);
  for (std::size_t rank = 1; rank < buffers.size(); ++rank)
    reduce(sums, values_of(buffers[rank]), op);
  for (const Group::Buffers& buffer : buffers)
    std::memcpy(buffer.to, sums.data(), count * sizeof(T));
}

// Rounded after each addition.
void all_reduce_16(const std::vector<Group::Buffers>& buffers, std::size_t count, Float type) {
  std::vector<std::uint16_t> sums(count);
  std::memcpy(sums.data(), buffers[0].from, 2 * count);
  for (std::size_t rank = 1; rank < buffers.size(); ++rank)
    for (std::size_t i = 0; i < count; ++i)
      store(sums.data(), i, type, load(sums.data(), i, type) + load(buffers[rank].from, i, type));
  for (const Group::Buffers& buffer : buffers) std::memcpy(buffer.to, sums.data(), 2 * count);
}

std::size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt64:
      return 8;
    case ncclFloat32:
    case ncclInt32:
      return 4;
    case ncclUint8:
      return 1;
    default:
      return 2;
  }
}

Float float_of(cudaDataType type) {
  return type == CUDA_R_32F ? Float::k32 : type == CUDA_R_16BF ? Float::kBrain : Float::k16;
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Group> group;
  int rank;
};

extern "C" {

const char* cublasLtGetStatusString(cublasStatus_t) { return "an error of the simulated cuBLASLt"; }
std::size_t cublasLtGetVersion() { return 0; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }

// The descriptions say nothing that multiply() does not do anyway.
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t,
                                        cudaDataType_t) {
  *description = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t) {
  if (attribute != CUBLASLT_MATMUL_DESC_TRANSA ||
      *static_cast<const cublasOperation_t*>(value) != CUBLAS_OP_T)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t) {
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t columns,
                                          std::int64_t leading) {
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(
      new Layout{float_of(type), rows, columns, static_cast<std::size_t>(leading)});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete reinterpret_cast<Layout*>(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t*, int* count) {
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void* a,
                              cublasLtMatrixLayout_t of_a, const void* b,
                              cublasLtMatrixLayout_t of_b, const void*, const void*,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t of_d,
                              const cublasLtMatmulAlgo_t*, void*, std::size_t,
                              cudaStream_t stream) {
  simulated_gpu::enqueue(stream, [=, left = *reinterpret_cast<const Layout*>(of_a),
                                  right = *reinterpret_cast<const Layout*>(of_b),
                                  result = *reinterpret_cast<const Layout*>(of_d)] {
    multiply(a, left, b, right, d, result);
  });
  return CUBLAS_STATUS_SUCCESS;
}

const char* ncclGetErrorString(ncclResult_t) { return "an error of the simulated NCCL"; }
ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> next = 1;
  *id = {};
  const int number = next++;
  std::memcpy(id->internal, &number, sizeof number);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  int number = 0;
  std::memcpy(&number, id.internal, sizeof number);
  const std::lock_guard lock(groups_mutex);
  std::shared_ptr<Group> group = groups[number].lock();
  if (!group) groups[number] = group = std::make_shared<Group>(ranks);
  *comm = new ncclComm{std::move(group), rank};
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->group->abort();
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  simulated_gpu::enqueue(stream, [=, group = comm->group, rank = comm->rank] {
    group->meet(rank, {from, to}, [&](const std::vector<Group::Buffers>& buffers) {
      switch (type) {
        case ncclFloat32:
          return all_reduce<float>(buffers, count, op);
        case ncclInt32:
          return all_reduce<std::int32_t>(buffers, count, op);
        case ncclInt64:
          return all_reduce<std::int64_t>(buffers, count, op);
        case ncclBfloat16:
          if (op == ncclSum) return all_reduce_16(buffers, count, Float::kBrain);
          break;
        default:
          break;
      }
      simulated_gpu::broken("NCCL: a reduction that is not simulated");
    });
  });
  return ncclSuccess;
}
ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  simulated_gpu::enqueue(stream, [=, group = comm->group, rank = comm->rank] {
    group->meet(rank, {from, to}, [&](const std::vector<Group::Buffers>& buffers) {
      for (std::size_t source = 0; source < buffers.size(); ++source)
        for (const Group::Buffers& buffer : buffers)
          std::memmove(static_cast<char*>(buffer.to) + source * bytes, buffers[source].from, bytes);
    });
  });
  return ncclSuccess;
}
ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * size_of(type);
  simulated_gpu::enqueue(stream, [=, group = comm->group, rank = comm->rank] {
    group->meet(rank, {from, to}, [&](const std::vector<Group::Buffers>& buffers) {
      for (const Group::Buffers& buffer : buffers)
        std::memmove(buffer.to, buffers[static_cast<std::size_t>(root)].from, bytes);
    });
  });
  return ncclSuccess;
}

}  // extern "C"
