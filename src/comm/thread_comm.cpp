#include "comm/thread_comm.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "comm/barrier.h"
#include "comm/tree_reduce.h"
#include "core/buffer.h"
#include "core/check.h"
#include "lockstep/mesh.h"

namespace lockstep {
namespace {

using std::chrono::milliseconds;

// A message of at most so many bytes is staged: every rank copies it into memory of the group, and
// after one meeting each computes the whole result for itself. A larger one is read where it lies,
// each rank does a share of the work, and the ranks meet again before that memory may change.
constexpr std::size_t kStagedBytes = 16 * 1024;

constexpr std::int64_t kMaxTimeoutSeconds = 365 * 24 * 3600;

enum class Kind : std::uint8_t { kAllReduce, kAllGather, kBroadcast, kBarrier, kSplit };

// What one rank passed to a collective.
struct Call {
  Kind kind = Kind::kBarrier;
  ReduceOp op = ReduceOp::kSum;
  DType dtype = DType::kUInt8;
  std::int64_t numel = 0;
  int root = 0;

  const std::byte* in = nullptr;  // staged or the caller's
  std::byte* out = nullptr;
  std::span<const std::vector<int>> groups = {};
  std::string problem = {};  // what is wrong with the arguments; every rank throws if one has any

  std::size_t bytes() const { return static_cast<std::size_t>(numel) * size_of(dtype); }
  bool staged() const { return bytes() <= kStagedBytes; }
  // Whether others read memory of the caller, who therefore has to stay until they are done.
  bool lends_memory() const { return kind == Kind::kSplit || !staged(); }
  bool matches(const Call& other) const {
    return kind == other.kind && op == other.op && dtype == other.dtype && numel == other.numel &&
           root == other.root && std::ranges::equal(groups, other.groups);
  }
};

// "1, 2, 3".
std::string join(std::span<const int> ranks) {
  std::string text;
  for (int rank : ranks) text += (text.empty() ? "" : ", ") + std::to_string(rank);
  return text;
}

// "all_reduce(sum, 576 x float32)".
std::string to_string(const Call& call) {
  constexpr std::array<std::string_view, 3> kOps = {"sum", "max", "min"};
  switch (call.kind) {
    case Kind::kAllReduce:
      return fmt::format("all_reduce({}, {} x {})", kOps.at(static_cast<std::size_t>(call.op)),
                         call.numel, name_of(call.dtype));
    case Kind::kAllGather:
      return fmt::format("all_gather({} x {})", call.numel, name_of(call.dtype));
    case Kind::kBroadcast:
      return fmt::format("broadcast({} x {}, root {})", call.numel, name_of(call.dtype), call.root);
    case Kind::kBarrier:
      return "barrier()";
    case Kind::kSplit: {
      std::string text;
      for (const auto& group : call.groups)
        text += (text.empty() ? "{" : ", {") + join(group) + "}";
      return "split(" + text + ")";
    }
  }
  fail("unknown collective {}", static_cast<int>(call.kind));
}

class Group;

// A group of all ranks and everything that was split off it: they fail together.
class Domain {
 public:
  void add(const std::shared_ptr<Group>& group);
  void abort(const std::string& reason);
  void reset();
  void throw_if_aborted() {
    std::lock_guard lock(mutex_);
    if (reason_) throw Error(*reason_);
  }
  std::string reason() {
    std::lock_guard lock(mutex_);
    return reason_.value_or("the collectives were aborted");
  }

 private:
  std::mutex mutex_;
  std::optional<std::string> reason_;
  std::vector<std::weak_ptr<Group>> groups_;
};

// What the ranks of one group share. A rank writes its own slot before it arrives at the barrier,
// and the others read it after they passed. The two halves of a slot take turns: a rank that writes
// one has passed the meeting before, at which everybody was done with reading it.
struct Slot {
  // Collectives that the rank has entered; written by the rank alone.
  alignas(64) std::atomic<std::uint64_t> entered{0};
  std::array<Call, 2> calls;
};

class Group {
 public:
  Group(std::shared_ptr<Domain> its_domain, std::vector<int> its_members, milliseconds its_timeout)
      : domain(std::move(its_domain)),
        members(std::move(its_members)),
        timeout(its_timeout),
        barrier(static_cast<int>(members.size())),
        slots(members.size()),
        staging(members.size() > 1 ? allocate_host(members.size() * 2 * kStagedBytes) : Buffer()) {}

  std::byte* staged(int rank, std::size_t half) const {
    return static_cast<std::byte*>(staging.data()) +
           (static_cast<std::size_t>(rank) * 2 + half) * kStagedBytes;
  }

  void reset() {
    barrier.reset();
    for (Slot& slot : slots) slot.entered = 0;
    split_off.clear();
  }

  const std::shared_ptr<Domain> domain;
  const std::vector<int> members;  // their ranks in the group of all ranks, for messages
  const milliseconds timeout;
  Barrier barrier;
  std::vector<Slot> slots;
  const Buffer staging;
  // Made by rank 0 in a split, taken by the others before they enter the next collective.
  std::vector<std::shared_ptr<Group>> split_off;
};

void Domain::add(const std::shared_ptr<Group>& group) {
  std::lock_guard lock(mutex_);
  std::erase_if(groups_, [](const auto& other) { return other.expired(); });
  groups_.push_back(group);
  if (reason_) group->barrier.abort();
}

void Domain::abort(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (!reason_) reason_ = reason;
  for (const auto& weak : groups_)
    if (const auto group = weak.lock()) group->barrier.abort();
}

void Domain::reset() {
  std::lock_guard lock(mutex_);
  if (!reason_) return;
  reason_.reset();
  for (const auto& weak : groups_)
    if (const auto group = weak.lock()) group->reset();
}

class ThreadComm final : public Comm {
 public:
  ThreadComm(std::shared_ptr<Group> group, int rank)
      : group_(std::move(group)), rank_(static_cast<std::size_t>(rank)) {}

  int rank() const override { return static_cast<int>(rank_); }
  int world_size() const override { return static_cast<int>(group_->members.size()); }

  void all_reduce(const Tensor& data, ReduceOp op) override;
  void all_gather(const Tensor& out, const Tensor& in) override;
  void broadcast(const Tensor& data, int root) override;
  void barrier() override {
    collective({}, [](Calls) {});
  }
  void abort(const std::string& reason) override { group_->domain->abort(reason); }
  void throw_if_aborted() const override { group_->domain->throw_if_aborted(); }
  void reset() override { group_->domain->reset(); }
  std::unique_ptr<Comm> split(std::span<const std::vector<int>> groups) override;

 private:
  // The calls of all ranks.
  struct Calls {
    std::span<const Slot> slots;
    std::size_t half;
    const Call& operator[](std::size_t rank) const { return slots[rank].calls[half]; }
    std::size_t size() const { return slots.size(); }
    bool agree() const;
  };

  // Meets the other ranks. If all of them call the same collective with sound arguments, runs
  // `work(calls)`, which must not wait; otherwise throws the same Error on every rank.
  template <typename Work>
  void collective(Call call, const Work& work);
  void meet(const Call& call, std::uint64_t number);
  std::string describe_disagreement(const Calls& calls) const;
  // Empty if all have entered collective `number`.
  std::string name_missing(std::uint64_t number) const;
  // "rank 3", "ranks 1, 2"; numbered as in the group of all ranks.
  std::string name_ranks(std::span<const std::size_t> ranks) const;

  const std::shared_ptr<Group> group_;
  const std::size_t rank_;
};

bool ThreadComm::Calls::agree() const {
  const Call& first = (*this)[0];
  for (std::size_t rank = 0; rank < size(); ++rank)
    if (!(*this)[rank].problem.empty() || !(*this)[rank].matches(first)) return false;
  return true;
}

template <typename Work>
void ThreadComm::collective(Call call, const Work& work) {
  Slot& slot = group_->slots[rank_];
  const std::uint64_t number = slot.entered.load(std::memory_order_relaxed) + 1;
  const Calls calls{group_->slots, number % 2};
  const bool sound = call.problem.empty();
  if (sound && call.in && call.staged() && calls.size() > 1) {
    std::byte* staged = group_->staged(rank_, calls.half);
    std::memcpy(staged, call.in, call.bytes());
    call.in = staged;
  }
  const bool lends_memory = call.lends_memory();
  slot.calls[calls.half] = std::move(call);
  slot.entered.store(number, std::memory_order_release);
  meet(slot.calls[calls.half], number);

  // From here on every rank comes to the same conclusions, and none waits before complete():
  // whatever happens, all get there.
  const bool agree = calls.agree();
  std::exception_ptr error;
  try {
    if (!agree) throw Error(describe_disagreement(calls));
    work(calls);
  } catch (...) {
    error = std::current_exception();
  }
  if (!agree || lends_memory) group_->barrier.complete();
  if (error) std::rethrow_exception(error);
}

void ThreadComm::meet(const Call& call, std::uint64_t number) {
  Barrier& barrier = group_->barrier;
  const auto round = barrier.arrive();
  Barrier::Outcome outcome = Barrier::Outcome::kAborted;
  if (round) outcome = barrier.wait(*round, group_->timeout);
  while (outcome == Barrier::Outcome::kTimedOut) {
    const std::string missing = name_missing(number);
    if (!missing.empty())
      group_->domain->abort(
          fmt::format("{} did not arrive at collective {}, {}, within {:g} seconds of {}", missing,
                      number, to_string(call), static_cast<double>(group_->timeout.count()) / 1000,
                      name_ranks({&rank_, 1})));
    // The last may have come in the meantime; then all pass.
    outcome = barrier.wait(*round, milliseconds(1));
  }
  if (outcome == Barrier::Outcome::kAborted) throw Error(group_->domain->reason());
}

std::string ThreadComm::name_missing(std::uint64_t number) const {
  std::vector<std::size_t> missing;
  for (std::size_t rank = 0; rank < group_->slots.size(); ++rank)
    if (group_->slots[rank].entered.load(std::memory_order_acquire) < number)
      missing.push_back(rank);
  return missing.empty() ? "" : name_ranks(missing);
}

std::string ThreadComm::name_ranks(std::span<const std::size_t> ranks) const {
  std::vector<int> members;
  for (std::size_t rank : ranks) members.push_back(group_->members[rank]);
  return (members.size() == 1 ? "rank " : "ranks ") + join(members);
}

std::string ThreadComm::describe_disagreement(const Calls& calls) const {
  for (std::size_t rank = 0; rank < calls.size(); ++rank)
    if (!calls[rank].problem.empty())
      return fmt::format("{} called {}: {}", name_ranks({&rank, 1}), to_string(calls[rank]),
                         calls[rank].problem);
  std::string text = "the ranks call different collectives: ";
  std::vector<bool> named(calls.size());
  for (std::size_t first = 0; first < calls.size(); ++first) {
    if (named[first]) continue;
    std::vector<std::size_t> alike;
    for (std::size_t rank = first; rank < calls.size(); ++rank) {
      if (!calls[rank].matches(calls[first])) continue;
      alike.push_back(rank);
      named[rank] = true;
    }
    text += fmt::format("{}{} called {}", first == 0 ? "" : "; ", name_ranks(alike),
                        to_string(calls[first]));
  }
  return text;
}

// What is wrong with a tensor that a collective is to read or write; empty if nothing is.
std::string find_problem(const Tensor& tensor) {
  if (tensor.device.type != DeviceType::kCpu)
    return fmt::format("the tensor is on {}, not in host memory", to_string(tensor.device));
  if (tensor.data == nullptr && tensor.numel() > 0)
    return fmt::format("the tensor of shape {} has no memory", to_string(tensor.shape));
  return {};
}

void ThreadComm::all_reduce(const Tensor& data, ReduceOp op) {
  Call call{.kind = Kind::kAllReduce, .op = op, .dtype = data.dtype, .numel = data.numel()};
  call.in = call.out = data.as<std::byte>();
  call.problem = find_problem(data);
  if (call.problem.empty() && !can_reduce(data.dtype))
    call.problem = fmt::format("{} cannot be reduced", name_of(data.dtype));

  collective(std::move(call), [&](const Calls& calls) {
    if (calls.size() == 1) return;
    std::array<const std::byte*, Mesh::kMaxWorldSize> sources;
    std::array<std::byte*, Mesh::kMaxWorldSize> destinations;
    for (std::size_t rank = 0; rank < calls.size(); ++rank) {
      sources[rank] = calls[rank].in;
      destinations[rank] = calls[rank].out;
    }
    const std::span all_sources(sources.data(), calls.size());
    const Call& own = calls[rank_];
    if (own.staged()) return tree_reduce(own.dtype, op, all_sources, {&own.out, 1}, 0, own.numel);
    // Every rank reduces one slice for all; slices begin at cache lines.
    const auto ranks = static_cast<std::int64_t>(calls.size());
    const std::int64_t slice = (own.numel / ranks / 64 + 1) * 64;
    const std::int64_t begin = std::min(own.numel, slice * static_cast<std::int64_t>(rank_));
    const std::int64_t end = std::min(own.numel, begin + slice);
    tree_reduce(own.dtype, op, all_sources, {destinations.data(), calls.size()}, begin, end);
  });
}

void ThreadComm::all_gather(const Tensor& out, const Tensor& in) {
  Call call{.kind = Kind::kAllGather, .dtype = in.dtype, .numel = in.numel()};
  call.in = in.as<std::byte>();
  call.out = out.as<std::byte>();
  call.problem = find_problem(in);
  if (call.problem.empty()) call.problem = find_problem(out);
  const std::int64_t ranks = world_size();
  if (call.problem.empty() &&
      (out.dtype != in.dtype || out.numel() % ranks != 0 || out.numel() / ranks != in.numel()))
    call.problem = fmt::format("the output must hold {} x {} elements of {}, not {} of {}", ranks,
                               in.numel(), name_of(in.dtype), out.numel(), name_of(out.dtype));

  collective(std::move(call), [&](const Calls& calls) {
    const std::size_t bytes = in.bytes();
    for (std::size_t rank = 0; rank < calls.size(); ++rank) {
      std::byte* part = out.as<std::byte>() + rank * bytes;
      // A rank's own part may be in place already.
      if (bytes > 0 && calls[rank].in != part) std::memcpy(part, calls[rank].in, bytes);
    }
  });
}

void ThreadComm::broadcast(const Tensor& data, int root) {
  Call call{.kind = Kind::kBroadcast, .dtype = data.dtype, .numel = data.numel(), .root = root};
  call.in = root == rank() ? data.as<std::byte>() : nullptr;
  call.problem = find_problem(data);
  if (root < 0 || root >= world_size())
    call.problem = fmt::format("the root must be a rank in [0, {})", world_size());

  collective(std::move(call), [&](const Calls& calls) {
    if (root != rank() && data.bytes() > 0)
      std::memcpy(data.data, calls[static_cast<std::size_t>(root)].in, data.bytes());
  });
}

// What is wrong with the groups of a split; empty if nothing is.
std::string find_problem(std::span<const std::vector<int>> groups, int world_size) {
  std::vector<bool> taken(static_cast<std::size_t>(world_size));
  for (const auto& group : groups) {
    if (group.empty()) return "a group has no ranks";
    for (int rank : group) {
      if (rank < 0 || rank >= world_size)
        return fmt::format("there is no rank {} among {}", rank, world_size);
      if (taken[static_cast<std::size_t>(rank)])
        return fmt::format("rank {} is listed twice", rank);
      taken[static_cast<std::size_t>(rank)] = true;
    }
  }
  return {};
}

std::unique_ptr<Comm> ThreadComm::split(std::span<const std::vector<int>> groups) {
  Call call{.kind = Kind::kSplit, .groups = groups};
  call.problem = find_problem(groups, world_size());

  auto& split_off = group_->split_off;
  collective(std::move(call), [&](const Calls&) {
    if (rank_ != 0) return;
    split_off.clear();
    for (const auto& group : groups) {
      std::vector<int> members;
      for (int rank : group) members.push_back(group_->members[static_cast<std::size_t>(rank)]);
      split_off.push_back(
          std::make_shared<Group>(group_->domain, std::move(members), group_->timeout));
      group_->domain->add(split_off.back());
    }
  });
  check(split_off.size() == groups.size(), "rank 0 could not make the groups of a split");
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto found = std::ranges::find(groups[i], rank());
    if (found != groups[i].end())
      return std::make_unique<ThreadComm>(split_off[i],
                                          static_cast<int>(found - groups[i].begin()));
  }
  return nullptr;
}

}  // namespace

std::chrono::milliseconds default_comm_timeout() {
  const char* text = std::getenv("LOCKSTEP_TIMEOUT_SECONDS");
  if (text == nullptr) return std::chrono::minutes(10);
  const std::string_view digits(text);
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), seconds);
  check(error == std::errc() && end == digits.data() + digits.size() && seconds > 0 &&
            seconds <= kMaxTimeoutSeconds,
        "LOCKSTEP_TIMEOUT_SECONDS must be a whole number of seconds from 1 to {}, not \"{}\"",
        kMaxTimeoutSeconds, digits);
  return std::chrono::seconds(seconds);
}

std::vector<std::unique_ptr<Comm>> make_thread_comms(int world_size,
                                                     std::chrono::milliseconds timeout) {
  check(world_size >= 1 && world_size <= Mesh::kMaxWorldSize,
        "the number of ranks must be from 1 to {}, not {}", Mesh::kMaxWorldSize, world_size);
  check(timeout > milliseconds(0) && timeout <= std::chrono::seconds(kMaxTimeoutSeconds),
        "the time-out of collectives must be from 1 ms to {} s, not {} ms", kMaxTimeoutSeconds,
        timeout.count());
  std::vector<int> members(static_cast<std::size_t>(world_size));
  std::iota(members.begin(), members.end(), 0);
  const auto domain = std::make_shared<Domain>();
  const auto group = std::make_shared<Group>(domain, std::move(members), timeout);
  domain->add(group);
  std::vector<std::unique_ptr<Comm>> comms;
  for (int rank = 0; rank < world_size; ++rank)
    comms.push_back(std::make_unique<ThreadComm>(group, rank));
  return comms;
}

}  // namespace lockstep
