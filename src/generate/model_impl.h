// What a Model handle holds.
#pragma once

#include <memory>
#include <vector>

#include "checkpoint/config.h"
#include "lockstep/model.h"
#include "sharding/plan.h"
#include "sharding/weights.h"
#include "spmd/team.h"
#include "text/tokenizer.h"

namespace lockstep {

struct LOCKSTEP_LOCAL Model::Impl {
  Config config;
  ShardPlan plan;
  DType dtype = DType::kBFloat16;
  bool check_memory = true;  // as in LoadOptions
  std::shared_ptr<Team> team;
  std::vector<Weights> weights;          // by rank; freed before the team
  std::unique_ptr<Tokenizer> tokenizer;  // null: none
  SamplingParams default_sampling;
  std::vector<std::int32_t> eos_ids;  // of config, generation config and tokenizer
  double load_seconds = 0;
};

}  // namespace lockstep
