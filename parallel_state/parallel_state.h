// The communicators of a rank, built once from a layout and the world; passed by reference.
#pragma once

#include <memory>

#include "csrc/comm/comm.h"
#include "parallel_state/expert_placement.h"
#include "parallel_state/parallel_options.h"
#include "parallel_state/rank_layout.h"

namespace sutor {

class ParallelState {
 public:
  // Collective over `world`, which must outlive this. num_experts: routed experts of the model.
  // `expert_ranks` must be the same on all ranks. Throws E0210 / E0211 for sizes that do not fit
  // the world or the model.
  ParallelState(const ParallelOptions& options, int num_experts, Comm& world,
                const ExpertRanks& expert_ranks = {});

  const RankLayout& layout() const { return layout_; }
  const ExpertPlacement& placement() const { return placement_; }
  const RankCoordinates& coordinates() const { return coordinates_; }
  Comm& world() const { return world_; }
  Comm& dp() const { return *dp_; }    // ranks with other samples; replicas of dense parameters
  Comm& ep() const { return *ep_; }    // ranks that share a set of routed experts
  Comm& edp() const { return *edp_; }  // replicas of this rank's experts

 private:
  std::unique_ptr<Comm> split(const char* group) const;

  Comm& world_;
  ExpertPlacement placement_;
  RankLayout layout_;
  RankCoordinates coordinates_;
  std::unique_ptr<Comm> dp_, ep_, edp_;
};

}  // namespace sutor
