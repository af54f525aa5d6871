/// @file
/// Collectives between the ranks of a mesh.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lockstep/export.h"
#include "lockstep/tensor.h"

namespace lockstep {

/// What an all-reduce computes.
enum class ReduceOp : std::uint8_t {
  kSum,  ///< The sum.
  kMax,  ///< The largest value.
  kMin,  ///< The smallest value.
};

/// One rank's end of a group of ranks. Every rank of the group calls the same collectives in the
/// same order, with tensors of the same dtype and shape, each from its own thread; a mismatch
/// throws Error on every rank where it can be seen. World size 1 returns at once. Tensors are on
/// the rank's device; on a GPU the work is enqueued on the rank's stream.
///
/// A call that cannot complete ends: abort() by any rank, or a rank that does not arrive within the
/// time-out, makes every waiting call of every rank throw Error naming who failed and where.
class LOCKSTEP_API Comm {
 public:
  virtual ~Comm() = default;

  /// This rank's number within this group, from 0.
  virtual int rank() const = 0;
  /// Number of ranks of this group.
  virtual int world_size() const = 0;

  /// Combines `data` of all ranks in place, element by element. Sums are added in one fixed binary
  /// tree over the ranks, ((0+1)+(2+3))+((4+5)+(6+7)), so that every rank gets the same bits and so
  /// that partial sums of the canonical sum (docs/canonical-sum.md) complete the same tree at every
  /// world size. A world size that is no power of two splits at the largest power of two below it.
  /// float16 and bfloat16 are added in float32 and rounded once.
  virtual void all_reduce(const Tensor& data, ReduceOp op = ReduceOp::kSum) = 0;

  /// Concatenates every rank's `in`, in rank order: `out` holds world_size() times the elements of
  /// `in`. `in` may be this rank's own part of `out`; otherwise they do not overlap.
  virtual void all_gather(const Tensor& out, const Tensor& in) = 0;

  /// Copies `data` of rank `root` to every rank.
  virtual void broadcast(const Tensor& data, int root) = 0;

  /// Returns when every rank has called it.
  virtual void barrier() = 0;

  /// Wakes every rank of this group, its parent and its sub-groups; their pending and later calls
  /// throw Error with `reason`. May be called from any thread, more than once (the first reason
  /// stays).
  virtual void abort(const std::string& reason) = 0;

  /// Throws Error if abort() was called or a rank did not arrive in time. On a GPU collectives are
  /// enqueued, and what went wrong in them shows here, once they are done. From any thread.
  virtual void throw_if_aborted() const = 0;

  /// Undoes abort(): the group, its parent and its sub-groups can be used again. For whoever owns
  /// the ranks (the Team, between runs): called on every rank's end while no rank is in a call.
  virtual void reset() = 0;

  /// A collective: sub-groups of ranks that communicate among themselves (replica groups). `groups`
  /// are disjoint lists of ranks, the same on every rank; a rank's number in its new group is its
  /// place in the list. Null for a rank that is in none.
  virtual std::unique_ptr<Comm> split(std::span<const std::vector<int>> groups) = 0;
};

}  // namespace lockstep
