// A GPU on the CPU, for tests where there is none: the sources of the CUDA backend, compiled by the
// C++ compiler against include/, run here, with everything that kernels do to each other: warps,
// barriers, copies behind the threads' backs, clusters, kernels that begin before the one before
// them has ended, streams, graphs, and the memory of other GPUs. It shows that results are right
// and that nothing waits for ever in the orders that it happens to run things in; it knows nothing
// of speed, of registers, or of what a GPU's memory may reorder.
//
// What has PTX in it, four headers of src/ops/cuda, is there once more in include/ops/cuda, with
// the same functions. A block runs on one thread of the CPU and each of its threads is a context
// of its own there, which runs until it has to wait for others; warps take turns at random. Copies
// arrive as late as they may. Device memory ends at pages that cannot be touched.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

namespace simulated_gpu {

inline constexpr int kMultiprocessors = 3;
inline constexpr std::size_t kSharedBytes = std::size_t{227} << 10;  // of a block

// Ends the process: what was done here is undefined on a GPU.
[[noreturn]] void broken(const char* what);

// Blocks that reach each other's shared memory.
struct Cluster {
  static constexpr int kMost = 8;
  std::atomic<std::ptrdiff_t> memory[kMost] =
      {};                        // where each block's thread has its own; 0: ended
  std::atomic<int> arrived = 0;  // threads, in all turns of the barrier
};

// One launch of a kernel.
struct Launch : std::enable_shared_from_this<Launch> {
  dim3 grid, block;
  std::size_t shared_bytes;
  int cluster_size;
  bool may_overlap;  // with the launch before it
  std::function<void()> kernel;

  std::shared_ptr<Launch> previous;  // until it is done
  std::unique_ptr<Cluster[]> clusters;
  std::int64_t blocks = 0;
  std::atomic<std::int64_t> next = 0, allowing = 0, ended = 0;  // blocks
  std::atomic<int> runners = 0;
};

struct Block {
  Launch& launch;
  Cluster* cluster = nullptr;
  int index_in_cluster = 0;
  bool allows_next = false;
  std::vector<std::function<void()>> copies = {};  // that have not arrived
};

// A thread of a kernel.
struct Thread {
  dim3 index;
  int number, lane;
  Block* block;
  int cluster_turns = 0;
  // 16-byte copies that nobody has waited for, in groups; the last one is open.
  struct Copy {
    void* to;
    const void* from;  // null: zeros
  };
  std::vector<std::vector<Copy>> copies = {};
};
extern thread_local Thread* current;
extern thread_local dim3 blockIdx, blockDim, gridDim;

// Lets others go on. For every round of a loop that waits for them.
void pause();

void sync_block();
// bar.sync: the barrier of this number, not 0, for so many threads.
void sync_threads(int number, int threads);

// Where the lanes of a warp meet: each brings words, and all see them.
struct Meeting {
  enum Kind { kSync, kBallot, kShuffle, kMultiply, kLoad } kind;
  unsigned lanes;  // that take part
  std::uint32_t words[32][6];
  float a[16][16], b[16][8];  // for kMultiply
};
// Waits for the given lanes but those that have ended. What is returned is valid until the lane's
// next but one meeting. `complete` is called once, by the last.
const Meeting& meet(Meeting::Kind kind, unsigned lanes, std::initializer_list<std::uint32_t> words,
                    void (*complete)(Meeting&) = nullptr);

// The block's, aligned to 1024 bytes; full of NaN at first.
void* launched_shared_memory();
// Fails unless so many bytes are in there.
void check_shared(const void* address, std::size_t bytes);
// Where what is at `address` in this block's shared memory is in the cluster's `block`.
void* in_cluster(int block, void* address);

void allow_next_launch();
void wait_for_previous_launch();

// Asynchronously on config.stream, or recorded where that records.
cudaError_t enqueue(const cudaLaunchConfig_t& config, std::function<void()> kernel);
// The same for what the host does, in the order of the stream.
void enqueue(cudaStream_t stream, std::function<void()> work);

// Has threads of the CPU run the launch.
void start(const std::shared_ptr<Launch>& launch);
void wait_until_all_allow_next(const Launch& launch);
void wait_until_done(const Launch& launch);

}  // namespace simulated_gpu
