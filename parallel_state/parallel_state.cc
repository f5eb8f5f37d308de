#include "parallel_state/parallel_state.h"

#include <algorithm>

#include "csrc/base/error.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {

ParallelState::ParallelState(const ParallelOptions& options, const ModelInfo& model,
                             const Trains& trains, Comm& world, const ExpertRanks& expert_ranks)
    : world_(world),
      options_(options),
      placement_(model.num_experts, options, world.size(), expert_ranks),
      layout_(options, world.size()),
      stages_(make_stage_map(model, options.pp, options.stages, trains)),
      coordinates_(layout_.coordinates(world.rank())),
      nodes_(world) {
  check_tensor_parallel(model, options);
  // The same order on every rank: making a group is collective over its ranks.
  tp_ = make("tp");
  cp_ = make("cp");
  pp_ = make("pp");
  tp_cp_ = make("tp-cp");
  dp_cp_ = make("dp-cp");
  tp_dp_cp_ = make("tp-dp-cp");
  ep_ = make("ep");
  etp_ = make("etp");
  etp_ep_ = make("etp-ep");
  edp_ = make("edp");
  etp_edp_ = make("etp-edp");
  node_ = make(nodes_.ranks_of(nodes_.node_of(world.rank())), "node");
  if (model.tied_head && layout_.pp() > 1) {
    const std::vector<int> ranks = tied_embedding_group(layout_, world.rank());
    if (!ranks.empty()) tied_ = make(ranks, "tied embedding");
  }
}

bool ParallelState::sequence_parallel() const {
  return layout_.tp() > 1 && options_.sequence_parallel != "false";
}

std::shared_ptr<Comm> ParallelState::make(const char* group) {
  return make(layout_.group_of(group, world_.rank()), group);
}

// All ranks of a group know the same groups, so all of them find the communicator or none does.
std::shared_ptr<Comm> ParallelState::make(const std::vector<int>& ranks, const char* name) {
  std::shared_ptr<Comm>& known = by_ranks_[ranks];
  if (!known) known = world_.subgroup(ranks, name);
  return known;
}

std::vector<int> tied_embedding_group(const RankLayout& layout, int rank) {
  const RankCoordinates at = layout.coordinates(rank);
  if (at.pp != 0 && at.pp != layout.pp() - 1) return {};
  std::vector<int> ranks;
  for (const int member : layout.group_of("dp-cp", rank)) {
    const std::vector<int> pipeline = layout.group_of("pp", member);
    ranks.push_back(pipeline.front());
    ranks.push_back(pipeline.back());
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

}  // namespace sutor
