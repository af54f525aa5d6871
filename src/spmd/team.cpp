#include "spmd/team.h"

#include <pthread.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "comm/thread_comm.h"
#include "core/check.h"
#include "ops/ops.h"
#include "spmd/devices.h"

namespace lockstep {
namespace {

class ThreadRank final : public Rank {
 public:
  ThreadRank(int id, const Mesh& mesh, std::unique_ptr<Comm> comm)
      : id_(id),
        world_size_(mesh.world_size()),
        device_(mesh.devices()[static_cast<std::size_t>(id)]),
        host_comm_(std::move(comm)) {}

  int id() const override { return id_; }
  int world_size() const override { return world_size_; }
  Device device() const override { return device_; }
  Comm& comm() override { return gpu_.comm ? *gpu_.comm : *host_comm_; }
  Ops& ops() override { return gpu_.ops ? *gpu_.ops : *cpu_ops_; }
  void* stream() const override { return gpu_.stream; }

  // On the rank's own thread, all ranks at the same time; gpu_team is null for CPU ranks.
  void start(GpuTeam* gpu_team) {
    if (gpu_team)
      gpu_ = gpu_team->make_rank(device_, *host_comm_);
    else
      cpu_ops_ = make_cpu_ops();
  }
  // On the rank's own thread.
  void stop() {
    gpu_ = {};
    cpu_ops_.reset();
  }

 private:
  const int id_;
  const int world_size_;
  const Device device_;
  const std::unique_ptr<Comm> host_comm_;
  std::unique_ptr<Ops> cpu_ops_;
  GpuRank gpu_;  // of a rank on a GPU; used instead of the others
};

// The rank that this thread plays, in whatever team.
thread_local const Rank* this_thread_rank = nullptr;

// "rank 2 (cpu:2)".
std::string name_of(const Rank& rank) {
  return fmt::format("rank {} ({})", rank.id(), to_string(rank.device()));
}

// What was thrown, in words. Within a catch block.
std::string describe_current_exception() {
  try {
    throw;
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception that is not a std::exception";
  }
}

}  // namespace

struct Team::Impl {
  Impl(const Mesh& its_mesh, const TeamOptions& its_options)
      : mesh(its_mesh), options(its_options) {}
  ~Impl();

  void start();
  void run(const std::string& what, const std::function<void(Rank&)>& function);
  // A rank's thread.
  void serve(ThreadRank& rank);
  // Of several failures the first is kept.
  void record_failure(Rank& rank, const std::string& message);

  const Mesh mesh;
  const TeamOptions options;
  std::unique_ptr<GpuTeam> gpu_team;  // null on the CPU
  std::vector<std::unique_ptr<ThreadRank>> ranks;
  std::vector<std::thread> threads;

  std::mutex turn;  // held by the caller of run()
  // The task, written before started_runs grows and left alone until no rank is busy.
  const std::string* what = nullptr;
  const std::function<void(Rank&)>* function = nullptr;  // null: end the thread
  std::atomic<std::uint32_t> started_runs{0};
  std::atomic<int> busy_ranks{0};

  std::mutex failure_mutex;
  std::string failure;  // of the task; empty if there was none
};

void Team::Impl::start() {
  if (mesh.devices().front().type == DeviceType::kCuda)
    gpu_team = make_gpu_team(mesh.world_size(), options.deterministic);
  auto comms = make_thread_comms(mesh.world_size());
  for (int id = 0; id < mesh.world_size(); ++id) {
    ranks.push_back(
        std::make_unique<ThreadRank>(id, mesh, std::move(comms[static_cast<std::size_t>(id)])));
  }
  threads.reserve(ranks.size());
  for (const auto& rank : ranks) {
    try {
      threads.emplace_back([this, &rank] { serve(*rank); });
    } catch (const std::system_error& error) {
      fail("the thread of {} cannot be started: {}", name_of(*rank), error.what());
    }
  }
  run("start",
      [this](Rank& rank) { ranks[static_cast<std::size_t>(rank.id())]->start(gpu_team.get()); });
}

Team::Impl::~Impl() {
  function = nullptr;
  started_runs.fetch_add(1, std::memory_order_release);
  started_runs.notify_all();
  for (std::thread& thread : threads) thread.join();
}

void Team::Impl::serve(ThreadRank& rank) {
  this_thread_rank = &rank;
  pthread_setname_np(pthread_self(), fmt::format("lockstep/rank{}", rank.id()).c_str());
  for (std::uint32_t finished_runs = 0;; ++finished_runs) {
    started_runs.wait(finished_runs, std::memory_order_acquire);
    if (function == nullptr) break;
    try {
      (*function)(rank);
    } catch (...) {
      record_failure(rank, fmt::format("{} failed in {}: {}", name_of(rank), *what,
                                       describe_current_exception()));
    }
    if (busy_ranks.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_ranks.notify_one();
  }
  rank.stop();
}

void Team::Impl::record_failure(Rank& rank, const std::string& message) {
  {
    // Before the abort: the ranks that it wakes come second.
    std::lock_guard lock(failure_mutex);
    if (failure.empty()) failure = message;
  }
  rank.comm().abort(message);
}

void Team::Impl::run(const std::string& its_what, const std::function<void(Rank&)>& its_function) {
  check(this_thread_rank == nullptr, "{} cannot start \"{}\": a rank's thread must not run a team",
        this_thread_rank ? name_of(*this_thread_rank) : "", its_what);
  check(static_cast<bool>(its_function), "there is no function to run in \"{}\"", its_what);
  std::lock_guard lock(turn);
  what = &its_what;
  function = &its_function;
  busy_ranks.store(static_cast<int>(ranks.size()), std::memory_order_relaxed);
  started_runs.fetch_add(1, std::memory_order_release);
  started_runs.notify_all();
  for (int busy; (busy = busy_ranks.load(std::memory_order_acquire)) != 0;)
    busy_ranks.wait(busy, std::memory_order_acquire);
  if (failure.empty()) return;
  for (const auto& rank : ranks) rank->comm().reset();
  throw Error(std::exchange(failure, {}));
}

Team::Team(const Mesh& mesh, const TeamOptions& options)
    : impl_(std::make_unique<Impl>(mesh, options)) {
  impl_->start();
}
Team::~Team() = default;

const Mesh& Team::mesh() const { return impl_->mesh; }
int Team::world_size() const { return impl_->mesh.world_size(); }

void Team::run(const std::string& what, const std::function<void(Rank&)>& function) {
  impl_->run(what, function);
}

}  // namespace lockstep
