// CUDA's runtime, as far as the CUDA backend uses it: devices, memory, streams, events, graphs.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "simulated_gpu/simulator.h"
#include "simulated_gpu/tensor_map.h"

namespace simulated_gpu {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kAlignment = 256;
constexpr std::size_t kDeviceBytes = std::size_t{8} << 30;
constexpr unsigned char kPoison = 0xff;  // NaN

int from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}
int num_devices() {
  static const int number = from_environment("SIMULATED_GPUS", 8);
  return number;
}

thread_local int device = 0;
thread_local cudaError_t last_error = cudaSuccess;

void wait_a_moment() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

cudaError_t result(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

// Each allocation ends just before a page that cannot be touched, as far as its alignment lets it.
struct Memory {
  struct Allocation {
    char* mapped;
    std::size_t mapped_bytes, bytes;
    int device;  // -1: the host
  };

  void* allocate(std::size_t bytes, int of_device) {
    const std::lock_guard lock(mutex);
    if (of_device >= 0 && used[of_device] + bytes > kDeviceBytes) return nullptr;
    const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const std::size_t pages = (rounded + kPage - 1) / kPage * kPage;
    void* mapped = mmap(nullptr, pages + kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    char* const base = static_cast<char*>(mapped);
    mprotect(base + pages, kPage, PROT_NONE);
    char* const data = base + pages - rounded;
    if (bytes <= (1 << 20))
      std::memset(data, kPoison, rounded);
    else
      std::memset(data + bytes, kPoison, rounded - bytes);
    if (of_device >= 0) used[of_device] += bytes;
    allocations[data] = {base, pages + kPage, bytes, of_device};
    return data;
  }

  void free(void* data) {
    if (!data) return;
    const std::lock_guard lock(mutex);
    const auto found = allocations.find(data);
    if (found == allocations.end()) broken("memory is given back that was not given");
    const Allocation& a = found->second;
    const char* end = a.mapped + a.mapped_bytes - kPage;
    for (const char* at = static_cast<char*>(data) + a.bytes; at < end; ++at)
      if (static_cast<unsigned char>(*at) != kPoison) broken("something wrote beyond its memory");
    if (a.device >= 0) used[a.device] -= a.bytes;
    munmap(a.mapped, a.mapped_bytes);
    allocations.erase(found);
  }

  std::mutex mutex;
  std::map<void*, Allocation> allocations;
  std::map<int, std::size_t> used;
};
Memory& memory() {
  static Memory& it = *new Memory;
  return it;
}

void fill(void* data, int value, std::size_t bytes) {
  // Much memory is only ever set to zero: whole pages of it are given back.
  constexpr std::size_t kMuch = 1 << 20;
  auto* begin = static_cast<char*>(data);
  if (value != 0 || bytes < kMuch) {
    std::memset(data, value, bytes);
    return;
  }
  const std::size_t before = (kPage - reinterpret_cast<std::uintptr_t>(begin) % kPage) % kPage;
  const std::size_t pages = (bytes - before) / kPage * kPage;
  std::memset(begin, 0, before);
  madvise(begin + before, pages, MADV_DONTNEED);
  std::memset(begin + before + pages, 0, bytes - before - pages);
}

}  // namespace
}  // namespace simulated_gpu

using simulated_gpu::Launch;

// Work in the order of a stream: of the host, or a launch, which is made anew each time.
struct Work {
  std::function<void()> on_host;
  std::function<std::shared_ptr<Launch>()> make_launch;
};

struct CUstream_st {
  explicit CUstream_st(int its_device) : device(its_device), worker([this] { run(); }) {}
  ~CUstream_st() {
    synchronize();
    {
      const std::lock_guard lock(mutex);
      ending = true;
    }
    changed.notify_all();
    worker.join();
  }

  void add(Work work) {
    if (recording) return recording->push_back(std::move(work));
    {
      const std::lock_guard lock(mutex);
      queue.push_back(std::move(work));
    }
    changed.notify_all();
  }

  void synchronize() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return queue.empty() && !busy; });
  }

  bool idle() {
    const std::lock_guard lock(mutex);
    return queue.empty() && !busy;
  }

  const int device;
  std::vector<Work>* recording = nullptr;

 private:
  void run() {
    std::deque<std::shared_ptr<Launch>> running;
    const auto finish_all = [&] {
      for (const auto& launch : running) {
        wait_until_done(*launch);
        launch->previous.reset();
      }
      running.clear();
    };
    std::unique_lock lock(mutex);
    for (;;) {
      if (queue.empty()) {
        lock.unlock();
        finish_all();
        lock.lock();
      }
      if (queue.empty()) {
        busy = false;
        changed.notify_all();
        changed.wait(lock, [&] { return ending || !queue.empty(); });
        if (queue.empty()) return;
      }
      busy = true;
      const Work work = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      if (work.make_launch) {
        const std::shared_ptr<Launch> launch = work.make_launch();
        if (launch->may_overlap && !running.empty()) {
          launch->previous = running.back();
          wait_until_all_allow_next(*running.back());
        } else {
          finish_all();
        }
        running.push_back(launch);
        start(launch);
      } else {
        finish_all();
        work.on_host();
      }
      lock.lock();
    }
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> queue;
  bool busy = true, ending = false;
  std::thread worker;
};

struct CUevent_st {
  std::atomic<int> pending = 0;
};

struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace simulated_gpu {
namespace {

std::mutex streams_mutex;
std::vector<cudaStream_t> streams;

void synchronize_device(int number) {
  const auto all_idle = [&] {
    const std::lock_guard lock(streams_mutex);
    return std::all_of(streams.begin(), streams.end(), [&](cudaStream_t stream) {
      return stream->device != number || stream->idle();
    });
  };
  while (!all_idle()) wait_a_moment();
}

}  // namespace

void enqueue(cudaStream_t stream, std::function<void()> work) {
  stream->add({std::move(work), nullptr});
}

cudaError_t enqueue(const cudaLaunchConfig_t& config, std::function<void()> kernel) {
  int cluster_size = 1;
  bool may_overlap = false;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == cudaLaunchAttributeClusterDimension)
      cluster_size = static_cast<int>(config.attrs[i].val.clusterDim.x);
    if (config.attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
      may_overlap = config.attrs[i].val.programmaticStreamSerializationAllowed != 0;
  }
  const auto threads = config.blockDim.x * config.blockDim.y * config.blockDim.z;
  if (threads == 0 || threads > 1024 || config.dynamicSmemBytes > kSharedBytes ||
      config.gridDim.x % static_cast<unsigned>(cluster_size) != 0 || cluster_size > Cluster::kMost)
    return result(cudaErrorInvalidConfiguration);
  const auto make_launch = [grid = config.gridDim, block = config.blockDim,
                            shared_bytes = config.dynamicSmemBytes, cluster_size, may_overlap,
                            kernel = std::move(kernel)] {
    auto launch = std::make_shared<Launch>();
    launch->grid = grid;
    launch->block = block;
    launch->shared_bytes = shared_bytes;
    launch->cluster_size = cluster_size;
    launch->may_overlap = may_overlap;
    launch->kernel = kernel;
    launch->blocks = std::int64_t{grid.x} * grid.y * grid.z;
    if (cluster_size > 1)
      launch->clusters =
          std::make_unique<Cluster[]>(static_cast<std::size_t>(launch->blocks / cluster_size));
    return launch;
  };
  config.stream->add({nullptr, make_launch});
  return cudaSuccess;
}

namespace {

// What a CUtensorMap holds here. Elements have two bytes.
struct Map {
  const unsigned char* data;
  unsigned rank;
  std::uint64_t sizes[4], strides[3];
  unsigned box[4];
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

Map map_at(const void* address) {
  Map map;
  std::memcpy(&map, address, sizeof map);
  if (map.data == nullptr) broken("a copy by a tensor map that was never made");
  return map;
}

CUresult encode(CUtensorMap* to, CUtensorMapDataType type, cuuint32_t rank, void* data,
                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                const cuuint32_t* steps, CUtensorMapInterleave interleave,
                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  Map map{};
  const bool known = type == CU_TENSOR_MAP_DATA_TYPE_UINT16 && rank >= 2 && rank <= 4 &&
                     interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
                     swizzle == CU_TENSOR_MAP_SWIZZLE_128B &&
                     reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  if (!known || box[0] * 2 > 128) return CUDA_ERROR_INVALID_VALUE;
  map.data = static_cast<const unsigned char*>(data);
  map.rank = rank;
  for (unsigned i = 0; i < rank; ++i) {
    map.sizes[i] = sizes[i];
    map.box[i] = box[i];
    if (sizes[i] == 0 || sizes[i] > std::uint64_t{1} << 32 || box[i] == 0 || box[i] > 256 ||
        steps[i] != 1)
      return CUDA_ERROR_INVALID_VALUE;
    if (i + 1 == rank) continue;
    map.strides[i] = strides[i];
    if (strides[i] % 16 != 0 || strides[i] >= std::uint64_t{1} << 40)
      return CUDA_ERROR_INVALID_VALUE;
  }
  std::memcpy(static_cast<void*>(to), &map, sizeof map);
  return CUDA_SUCCESS;
}

}  // namespace

std::size_t bytes_of_box(const void* address) {
  const Map map = map_at(address);
  std::size_t bytes = 2;
  for (unsigned i = 0; i < map.rank; ++i) bytes *= map.box[i];
  return bytes;
}

std::size_t copy_box(void* to, const void* address, const std::array<int, 4>& at) {
  const Map map = map_at(address);
  const auto begin = reinterpret_cast<std::uintptr_t>(to);
  if (begin % 128 != 0) broken("a box's destination is not aligned to 128 bytes");
  const auto extent = [&](unsigned i) { return i < map.rank ? map.box[i] : 1; };
  std::uintptr_t place = begin;
  for (unsigned w = 0; w < extent(3); ++w)
    for (unsigned z = 0; z < extent(2); ++z)
      for (unsigned y = 0; y < extent(1); ++y)
        for (unsigned x = 0; x < extent(0); ++x, place += 2) {
          const std::int64_t index[4] = {std::int64_t{at[0]} + x, std::int64_t{at[1]} + y,
                                         std::int64_t{at[2]} + z, std::int64_t{at[3]} + w};
          bool inside = true;
          const unsigned char* from = map.data;
          for (unsigned i = 0; i < map.rank; ++i) {
            inside = inside && index[i] >= 0 && static_cast<std::uint64_t>(index[i]) < map.sizes[i];
            from += index[i] * static_cast<std::int64_t>(i == 0 ? 2 : map.strides[i - 1]);
          }
          std::uint16_t element = 0;
          if (inside) std::memcpy(&element, from, 2);
          const std::uintptr_t exchanged = place ^ place / 128 % 8 * 16;
          std::memcpy(reinterpret_cast<void*>(exchanged), &element, 2);
        }
  return place - begin;
}

}  // namespace simulated_gpu

using namespace simulated_gpu;

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an error of the simulated GPU";
}
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = num_devices();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* number) {
  *number = device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int number) {
  if (number < 0 || number >= num_devices()) return result(cudaErrorInvalidDevice);
  device = number;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "simulated GPU");
  properties->totalGlobalMem = kDeviceBytes;
  properties->major = 9;
  properties->multiProcessorCount = kMultiprocessors;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kSharedBytes);
      return cudaSuccess;
    case cudaDevAttrComputeMode:
      *value = cudaComputeModeDefault;
      return cudaSuccess;
    default:
      return result(cudaErrorInvalidValue);
  }
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() {
  synchronize_device(device);
  return cudaSuccess;
}

// SIMULATED_GPU_CODE=80: as if only code for that were there.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->ptxVersion = from_environment("SIMULATED_GPU_CODE", 90);
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
  return value <= static_cast<int>(kSharedBytes) ? cudaSuccess : result(cudaErrorInvalidValue);
}
#if CUDART_VERSION >= 12050
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
#else
cudaError_t cudaGetDriverEntryPoint(const char*, void** function, unsigned long long,
                                    cudaDriverEntryPointQueryResult* found) {
#endif
  *function = reinterpret_cast<void*>(&encode);
  *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  *data = memory().allocate(bytes, device);
  return *data ? cudaSuccess : result(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* data) {
  synchronize_device(device);
  memory().free(data);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  *data = memory().allocate(bytes, -1);
  return *data ? cudaSuccess : result(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* data) {  // does not wait: whoever still copies from there fails
  memory().free(data);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const std::lock_guard lock(memory().mutex);
  *total = kDeviceBytes;
  *free = kDeviceBytes - memory().used[device];
  return cudaSuccess;
}
cudaError_t cudaMemset(void* data, int value, std::size_t bytes) {
  fill(data, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  enqueue(stream, [=] { fill(data, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st(device);
  const std::lock_guard lock(streams_mutex);
  streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    const std::lock_guard lock(streams_mutex);
    std::erase(streams, stream);
  }
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->recording) return result(cudaErrorStreamCaptureUnsupported);
  stream->synchronize();
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  while (event->pending > 0) wait_a_moment();
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  ++event->pending;
  enqueue(stream, [=] { --event->pending; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->pending == 0) return cudaSuccess;
  wait_a_moment();  // who asks will ask again
  return cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  while (event->pending > 0) wait_a_moment();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->recording = new std::vector<Work>;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::unique_ptr<std::vector<Work>> work(std::exchange(stream->recording, nullptr));
  *graph = new CUgraph_st{std::move(*work)};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const Work& work : executable->work) stream->add(work);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

}  // extern "C"
