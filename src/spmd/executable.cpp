#include <algorithm>
#include <utility>

#include "core/check.h"
#include "lockstep/spmd.h"
#include "spmd/team.h"

namespace lockstep {
namespace {

void check_tensors(const std::vector<std::vector<Tensor>>& tensors, const char* what,
                   const Mesh& mesh) {
  if (tensors.empty()) return;
  check(tensors.size() == mesh.devices().size(), "there are {} lists of {}s for {} ranks",
        tensors.size(), what, mesh.devices().size());
  for (std::size_t rank = 0; rank < tensors.size(); ++rank)
    for (std::size_t i = 0; i < tensors[rank].size(); ++i)
      check(tensors[rank][i].device.type == mesh.devices()[rank].type,
            "{} {} of rank {} is on {}, but the rank is on {}", what, i, rank,
            to_string(tensors[rank][i].device), to_string(mesh.devices()[rank]));
}

}  // namespace

struct LOCKSTEP_LOCAL Executable::Impl {
  explicit Impl(std::shared_ptr<Team> its_team)
      : team(std::move(its_team)), steps(static_cast<std::size_t>(team->world_size())) {}

  // A step and the memory that it holds go where they were made: on the rank's thread. Not possible
  // from a rank's thread, where they go with this object.
  ~Impl() {
    try {
      team->run("clean-up",
                [this](Rank& rank) { steps[static_cast<std::size_t>(rank.id())] = nullptr; });
    } catch (const Error&) {
    }
  }

  const std::shared_ptr<Team> team;
  std::vector<Step> steps;
};

Executable::Executable(const Mesh& mesh, const Builder& builder)
    : Executable(std::make_shared<Team>(mesh), builder) {}

Executable::Executable(std::shared_ptr<Team> team, const Builder& builder) {
  check(team != nullptr, "an executable needs a team");
  check(static_cast<bool>(builder), "an executable needs a builder");
  impl_ = std::make_unique<Impl>(std::move(team));
  impl_->team->run("build", [&](Rank& rank) {
    Step step = builder(rank);
    check(static_cast<bool>(step), "the builder returned no step");
    impl_->steps[static_cast<std::size_t>(rank.id())] = std::move(step);
  });
}

Executable::~Executable() = default;
Executable::Executable(Executable&&) noexcept = default;
Executable& Executable::operator=(Executable&&) noexcept = default;

void Executable::run(const std::vector<std::vector<Tensor>>& inputs,
                     const std::vector<std::vector<Tensor>>& outputs) {
  check(impl_ != nullptr, "the executable was moved from");
  check_tensors(inputs, "input", impl_->team->mesh());
  check_tensors(outputs, "output", impl_->team->mesh());
  const auto of_rank = [](const std::vector<std::vector<Tensor>>& tensors, std::size_t rank) {
    return tensors.empty() ? std::span<const Tensor>() : std::span<const Tensor>(tensors[rank]);
  };
  impl_->team->run("run", [&](Rank& rank) {
    const auto id = static_cast<std::size_t>(rank.id());
    impl_->steps[id](of_rank(inputs, id), of_rank(outputs, id));
  });
}

int Executable::world_size() const {
  check(impl_ != nullptr, "the executable was moved from");
  return impl_->team->world_size();
}

}  // namespace lockstep
