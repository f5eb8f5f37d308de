#include "parallel_state/parallel_state.h"

namespace sutor {

ParallelState::ParallelState(const ParallelOptions& options, int num_experts, Comm& world,
                             const ExpertRanks& expert_ranks)
    : world_(world),
      placement_(num_experts, options, world.size(), expert_ranks),
      layout_(options, world.size()),
      coordinates_(layout_.coordinates(world.rank())),
      dp_(split("dp-cp")),
      ep_(split("ep")),
      edp_(split("edp")) {}

std::unique_ptr<Comm> ParallelState::split(const char* group) const {
  return world_.subgroup(layout_.group_of(group, world_.rank()), group);
}

}  // namespace sutor
