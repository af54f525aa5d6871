// Team: the threads that play the ranks of a mesh.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "lockstep/mesh.h"
#include "lockstep/spmd.h"

namespace lockstep {

struct TeamOptions {
  // GPUs: the same bits at every world size for any number of rows. CPU ranks always have them.
  bool deterministic = false;
};

// Owns one thread, one Comm and one Ops a rank. Idle ranks sleep. run() may be called from several
// threads: the calls take turns.
class Team {
 public:
  // Throws Error if a rank cannot be started. Comm time-out: LOCKSTEP_TIMEOUT_SECONDS, 600 if not
  // set.
  explicit Team(const Mesh& mesh, const TeamOptions& options = {});
  // Ends and joins the threads. No run() may be in progress.
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  const Mesh& mesh() const;
  int world_size() const;

  // Runs `function` on every rank's thread and returns when all ranks have returned. The first rank
  // that throws aborts the collectives, so that all others wake; its error reaches the caller as an
  // Error "rank 2 (cpu:2) failed in <what>: ...". Afterwards the team is usable again: its
  // collectives, those of split() included, are reset in place. From a rank's thread, of any team,
  // run() throws Error: ranks that wait for ranks could wait for ever.
  void run(const std::string& what, const std::function<void(Rank&)>& function);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep
