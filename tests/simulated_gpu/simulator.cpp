// Threads, warps, blocks, and the launches of one stream.
#include "simulated_gpu/simulator.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

namespace simulated_gpu {
namespace {

constexpr int kWarp = 32, kMaxThreads = 1024;
constexpr std::size_t kStackBytes = 64 << 10;
// Between stacks: their tops are not all in the same lines of the cache.
constexpr std::size_t kStackStride = kStackBytes + 1088;
// Blocks of a launch that run at once: two on each multiprocessor, or a cluster.
constexpr int kRoom = std::max(2 * kMultiprocessors, Cluster::kMost);

alignas(1024) thread_local unsigned char shared_memory[kSharedBytes];

unsigned seed() {
  static const char* const text = std::getenv("SIMULATED_GPU_SEED");
  static std::atomic<unsigned> next = text ? static_cast<unsigned>(std::atoi(text)) : 1;
  return next++;
}

// For whoever waits for launches: one event for all.
std::mutex launches_mutex;
std::condition_variable launches_changed;

template <typename Condition>
void wait_for_launches(const Condition& condition) {
  std::unique_lock lock(launches_mutex);
  launches_changed.wait(lock, condition);
}
void tell_launches_changed() {
  { const std::lock_guard lock(launches_mutex); }
  launches_changed.notify_all();
}

// A thread of the CPU that runs blocks, one after the other.
class Runner {
 public:
  Runner() {
    void* stacks = mmap(nullptr, kMaxThreads * kStackStride, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) broken("no memory for stacks");
    if (reinterpret_cast<std::uintptr_t>(shared_memory) % alignof(decltype(shared_memory)) != 0)
      broken("shared memory is not aligned as it was declared");
    stacks_ = static_cast<char*>(stacks);
  }

  void work_on(Launch& launch) {
    for (;;) {
      const std::int64_t number = launch.next++;
      if (number >= launch.blocks) return;
      run(launch, number);
    }
  }

  // For the thread that runs. Others of its warp come first.
  void wait() {
    Fiber& self = fiber();
    self.state = State::kWaiting;
    moved_ = true;
    const int first = self.thread.number / kWarp * kWarp;
    for (int i = 1; i < kWarp; ++i) {
      const int next = first + (self.thread.lane + i) % kWarp;
      if (next < threads_ && fibers_[static_cast<std::size_t>(next)].state == State::kReady) {
        current = &fibers_[static_cast<std::size_t>(next)].thread;
        return leave(self.context, &Runner::resume);
      }
    }
    leave(self.context, &Runner::return_to_turns);
  }
  void pause() { leave(fiber().context, &Runner::return_to_turns); }

  void sync_block() {
    if (++at_block_ == alive_)
      release_block();
    else
      wait();
  }

  void sync_threads(int number, int threads) {
    std::vector<int>& waiting = at_barriers_[static_cast<std::size_t>(number)];
    waiting.push_back(current->number);
    if (static_cast<int>(waiting.size()) < threads) return wait();
    for (int thread : std::exchange(waiting, {})) make_ready(thread);
  }

  const Meeting& meet(Meeting::Kind kind, unsigned lanes,
                      std::initializer_list<std::uint32_t> words, void (*complete)(Meeting&)) {
    Warp& warp = warp_of(current->number);
    Meeting& meeting = warp.meetings[warp.turn % 2];
    if (warp.arrived == 0) {
      meeting.kind = kind;
      warp.expected = lanes;
      warp.complete = complete;
    }
    if (meeting.kind != kind || warp.expected != lanes || !(lanes >> current->lane & 1))
      broken("lanes of a warp are at different places when they should meet");
    warp.arrived |= 1u << current->lane;
    std::copy(words.begin(), words.end(), meeting.words[current->lane]);
    if (!end_meeting(current->number)) wait();
    return meeting;
  }

 private:
  enum class State { kReady, kWaiting, kEnded };
  struct Context {
    void* words[5];  // for __builtin_setjmp()
  };
  struct Fiber {
    Context context;
    Thread thread;
    State state = State::kEnded;
    bool begun = false;
  };
  struct Warp {
    unsigned alive = 0, arrived = 0, expected = 0;
    unsigned turn = 0;
    void (*complete)(Meeting&) = nullptr;
    Meeting meetings[2];
  };

  void run(Launch& launch, std::int64_t number) {
    const auto x = number % launch.grid.x, rest = number / launch.grid.x;
    blockIdx = dim3(static_cast<unsigned>(x), static_cast<unsigned>(rest % launch.grid.y),
                    static_cast<unsigned>(rest / launch.grid.y));
    blockDim = launch.block;
    gridDim = launch.grid;
    Block block{launch};
    if (launch.cluster_size > 1) {
      block.cluster = &launch.clusters[static_cast<std::size_t>(number / launch.cluster_size)];
      block.index_in_cluster = static_cast<int>(number % launch.cluster_size);
      block.cluster->memory[block.index_in_cluster] =
          reinterpret_cast<std::ptrdiff_t>(__builtin_thread_pointer());
    }
    block_ = &block;
    std::memset(shared_memory, 0xff, launch.shared_bytes);
    begin_threads(launch);
    while (alive_ > 0) take_turns();
    if (!block.copies.empty()) broken("a block ended before its copies had arrived");
    if (block.cluster) block.cluster->memory[block.index_in_cluster] = 0;
    if (!block.allows_next && ++launch.allowing == launch.blocks) tell_launches_changed();
    if (++launch.ended == launch.blocks) tell_launches_changed();
    block_ = nullptr;
  }

  void begin_threads(Launch& launch) {
    const dim3 size = launch.block;
    const int threads = static_cast<int>(size.x * size.y * size.z);
    order_.resize(static_cast<std::size_t>((threads + kWarp - 1) / kWarp));
    for (std::size_t i = 0; i < order_.size(); ++i) {
      order_[i] = i;
      const int lanes = std::min(kWarp, threads - static_cast<int>(i) * kWarp);
      warps_[i].alive = lanes == kWarp ? ~0u : (1u << lanes) - 1;
      warps_[i].arrived = 0;
    }
    threads_ = alive_ = threads;
    at_block_ = 0;
    for (int i = 0; i < threads; ++i) {
      const auto n = static_cast<unsigned>(i);
      Fiber& fiber = fibers_[n];
      fiber.state = State::kReady;
      fiber.thread.index = dim3(n % size.x, n / size.x % size.y, n / size.x / size.y);
      fiber.thread.number = i;
      fiber.thread.lane = i % kWarp;
      fiber.thread.block = block_;
      fiber.thread.cluster_turns = 0;
      fiber.thread.copies.clear();
    }
  }

  // Each warp's threads that can run do, most of the time, until they wait or end.
  void take_turns() {
    bool some_ready = false, some_skipped = false;
    moved_ = false;
    std::shuffle(order_.begin(), order_.end(), random_);
    for (std::size_t warp : order_) {
      if (random_() % 16 == 0) {
        some_skipped = true;
        continue;
      }
      const int begin = static_cast<int>(warp) * kWarp, end = std::min(begin + kWarp, threads_);
      for (int i = begin; i < end; ++i) {
        if (fibers_[static_cast<std::size_t>(i)].state != State::kReady) continue;
        some_ready = true;
        current = &fibers_[static_cast<std::size_t>(i)].thread;
        leave(own_context_, &Runner::resume);
      }
    }
    auto& copies = block_->copies;
    for (std::size_t i = 0; i < copies.size();) {
      if (random_() % 4 != 0 && moved_) {
        ++i;
        continue;
      }
      const auto copy = std::move(copies[i]);
      copies.erase(copies.begin() + static_cast<std::ptrdiff_t>(i));
      copy();
      moved_ = true;
    }
    if (moved_) rounds_without_ = 0;
    if (moved_ || some_skipped || alive_ == 0) return;
    if (!some_ready) broken("all threads of a block wait for each other");
    // For other blocks, then, or other GPUs.
    Launch& launch = block_->launch;
    if (launch.next < launch.blocks && launch.runners < kRoom)
      start(block_->launch.shared_from_this());
    if (++rounds_without_ < 20)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(std::min(rounds_without_, 500)));
  }

  Fiber& fiber() { return fibers_[static_cast<std::size_t>(current->number)]; }
  Warp& warp_of(int thread) { return warps_[static_cast<std::size_t>(thread / kWarp)]; }
  void make_ready(int thread) { fibers_[static_cast<std::size_t>(thread)].state = State::kReady; }

  void release_block() {
    at_block_ = 0;
    for (int i = 0; i < threads_; ++i)
      if (fibers_[static_cast<std::size_t>(i)].state == State::kWaiting) make_ready(i);
  }

  // Whether all lanes are there.
  bool end_meeting(int thread) {
    Warp& warp = warp_of(thread);
    if (warp.arrived == 0 || warp.arrived != (warp.expected & warp.alive)) return false;
    Meeting& meeting = warp.meetings[warp.turn % 2];
    meeting.lanes = warp.arrived;
    if (warp.complete) warp.complete(meeting);
    for (int lane = 0; lane < kWarp; ++lane)
      if (warp.arrived >> lane & 1) make_ready(thread / kWarp * kWarp + lane);
    warp.arrived = 0;
    ++warp.turn;
    return true;
  }

  // Called by a thread that has ended.
  void end_thread() {
    Warp& warp = warp_of(current->number);
    warp.alive &= ~(1u << current->lane);
    fiber().state = State::kEnded;
    --alive_;
    moved_ = true;
    end_meeting(current->number);
    if (at_block_ > 0 && at_block_ == alive_) release_block();
  }

  // Goes on elsewhere until somebody comes back to `from`.
  [[gnu::noinline]] void leave(Context& from, void (Runner::*go_on)()) {
    if (__builtin_setjmp(from.words) == 0) (this->*go_on)();
  }
  [[gnu::noinline]] void return_to_turns() { __builtin_longjmp(own_context_.words, 1); }
  // The current thread.
  [[gnu::noinline]] void resume() {
    Fiber& next = fiber();
    if (next.begun) __builtin_longjmp(next.context.words, 1);
    next.begun = true;
    ucontext_t first;
    getcontext(&first);
    first.uc_stack.ss_sp = stacks_ + static_cast<std::size_t>(current->number) * kStackStride;
    first.uc_stack.ss_size = kStackBytes;
    first.uc_link = nullptr;
    makecontext(&first, &Runner::begin, 0);
    setcontext(&first);
  }

  static void begin();

  std::vector<Fiber> fibers_ = std::vector<Fiber>(kMaxThreads);
  std::vector<Warp> warps_ = std::vector<Warp>(kMaxThreads / kWarp);
  std::vector<std::size_t> order_;  // of the block's warps
  char* stacks_ = nullptr;
  std::vector<int> at_barriers_[16];
  Context own_context_;  // of take_turns()
  Block* block_ = nullptr;
  int threads_ = 0, alive_ = 0, at_block_ = 0, rounds_without_ = 0;
  bool moved_ = false;  // some thread did more than to pause
  std::mt19937 random_{seed()};
};

thread_local Runner* runner = nullptr;

// Fibers are used again, for thread after thread.
void Runner::begin() {
  for (;;) {
    runner->block_->launch.kernel();
    runner->end_thread();
    runner->pause();
  }
}

// Threads of the CPU are kept for other launches; they end with the process.
class Runners {
 public:
  void start(const std::shared_ptr<Launch>& launch) {
    ++launch->runners;
    const std::lock_guard lock(mutex_);
    launches_.push_back(launch);
    if (launches_.size() > idle_) std::thread([this] { run(); }).detach();
    changed_.notify_one();
  }

 private:
  void run() {
    Runner its_runner;
    runner = &its_runner;
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      changed_.wait(lock, [&] { return !launches_.empty(); });
      --idle_;
      const auto launch = std::move(launches_.front());
      launches_.pop_front();
      lock.unlock();
      its_runner.work_on(*launch);
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Launch>> launches_;
  std::size_t idle_ = 0;
};

}  // namespace

thread_local Thread* current = nullptr;
thread_local dim3 blockIdx, blockDim, gridDim;

void broken(const char* what) {
  std::fprintf(stderr, "simulated GPU: %s", what);
  if (current)
    std::fprintf(stderr, " (block %u, %u, %u, thread %d)", blockIdx.x, blockIdx.y, blockIdx.z,
                 current->number);
  std::fputc('\n', stderr);
  std::abort();
}

void pause() { runner->pause(); }
void sync_block() { runner->sync_block(); }
void sync_threads(int number, int threads) { runner->sync_threads(number, threads); }
const Meeting& meet(Meeting::Kind kind, unsigned lanes, std::initializer_list<std::uint32_t> words,
                    void (*complete)(Meeting&)) {
  return runner->meet(kind, lanes, words, complete);
}

void* launched_shared_memory() { return shared_memory; }

void check_shared(const void* address, std::size_t bytes) {
  const auto* begin = static_cast<const unsigned char*>(address);
  if (begin < shared_memory || begin + bytes > shared_memory + current->block->launch.shared_bytes)
    broken("a copy goes beyond the shared memory that was asked for");
}

void* in_cluster(int block, void* address) {
  const std::ptrdiff_t there = current->block->cluster->memory[block];
  if (there == 0) broken("a block of a cluster reaches one that has not begun or has ended");
  return static_cast<char*>(address) +
         (there - reinterpret_cast<std::ptrdiff_t>(__builtin_thread_pointer()));
}

void allow_next_launch() {
  Block& block = *current->block;
  if (std::exchange(block.allows_next, true)) return;
  if (++block.launch.allowing == block.launch.blocks) tell_launches_changed();
}

void wait_for_previous_launch() {
  const auto& previous = current->block->launch.previous;
  if (previous) wait_until_done(*previous);
}

void start(const std::shared_ptr<Launch>& launch) {
  static Runners& runners = *new Runners;
  runners.start(launch);
}
void wait_until_all_allow_next(const Launch& launch) {
  wait_for_launches([&] { return launch.allowing == launch.blocks; });
}
void wait_until_done(const Launch& launch) {
  wait_for_launches([&] { return launch.ended == launch.blocks; });
}

}  // namespace simulated_gpu
