/// @file
/// Single program, multiple data: build a function on every rank of a mesh, run it many times with
/// per-rank inputs and outputs. Everything else in Lockstep stands on this; so can your own sharded
/// layers.
///
/// @code
/// Executable sum(Mesh::tensor_parallel(4), [](Rank& rank) {
///   return [&rank](std::span<const Tensor> in, std::span<const Tensor> out) {
///     std::memcpy(out[0].data, in[0].data, in[0].bytes());
///     rank.comm().all_reduce(out[0]);
///   };
/// });
/// sum.run(inputs, outputs);   // inputs[r]: the tensors of rank r
/// @endcode
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "lockstep/comm.h"
#include "lockstep/export.h"
#include "lockstep/mesh.h"
#include "lockstep/tensor.h"

namespace lockstep {

class Ops;
class Team;

/// One participant. Belongs to its Team; used from the rank's own thread alone.
class LOCKSTEP_API Rank {
 public:
  virtual ~Rank() = default;
  /// This rank's number, from 0 to world_size() - 1.
  virtual int id() const = 0;
  /// Number of ranks.
  virtual int world_size() const = 0;
  /// The device that this rank owns.
  virtual Device device() const = 0;
  /// Collectives with all other ranks.
  virtual Comm& comm() = 0;
  /// The operations of a transformer on this rank's device. For code within Lockstep: its header,
  /// src/ops/ops.h, is not installed.
  virtual Ops& ops() = 0;
  /// cudaStream_t on a GPU, null on the CPU.
  virtual void* stream() const = 0;
};

/// A program built once on every rank and run many times. run() from one thread at a time.
class LOCKSTEP_API Executable {
 public:
  /// One run of the program on one rank. Inputs and outputs are on that rank's device.
  using Step = std::function<void(std::span<const Tensor> inputs, std::span<const Tensor> outputs)>;
  /// Called once on every rank's own thread: allocates what the rank needs, returns its step.
  using Builder = std::function<Step(Rank&)>;

  /// Starts the ranks of `mesh` and builds the program on each. Throws one Error that names the
  /// rank when a device is missing or a builder throws.
  Executable(const Mesh& mesh, const Builder& builder);
  /// On ranks that already run; shares them. For code within Lockstep: Team is not installed.
  Executable(std::shared_ptr<Team> team, const Builder& builder);
  /// Destroys the steps on their ranks' threads, then ends the ranks if nothing else uses them.
  ~Executable();
  /// What was moved from can only be destroyed or assigned to.
  Executable(Executable&&) noexcept;
  /// The same.
  Executable& operator=(Executable&&) noexcept;

  /// Runs the step on all ranks and returns when all have returned. inputs[r] and outputs[r] are
  /// rank r's; an empty outer vector means none for every rank. If a rank throws, every other
  /// rank's collectives are woken, and one Error reaches the caller that names the rank (of
  /// several, the one that failed first). The executable can be run again on CPU ranks; GPU ranks
  /// stay stopped.
  void run(const std::vector<std::vector<Tensor>>& inputs = {},
           const std::vector<std::vector<Tensor>>& outputs = {});

  /// Number of ranks.
  int world_size() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep
