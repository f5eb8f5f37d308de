// The communicators of a rank and what its place in the layout means, built once from a layout and
// the world; passed by reference. Groups of the same ranks share a communicator.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "csrc/comm/comm.h"
#include "parallel_state/layout/node_map.h"
#include "parallel_state/layout/parallel_options.h"
#include "parallel_state/layout/rank_layout.h"
#include "parallel_state/layout/stage_costs.h"
#include "parallel_state/layout/stage_map.h"
#include "parallel_state/model/model_info.h"
#include "parallel_state/placement/expert_placement.h"

namespace sutor {

class ParallelState {
 public:
  // Collective over `world`, which must outlive this. `trains` (stage_costs.h) and `expert_ranks`
  // must be the same on all ranks. Throws E0210 / E0211 / E0213 for sizes that do not fit the world
  // or the model.
  ParallelState(const ParallelOptions& options, const ModelInfo& model, const Trains& trains,
                Comm& world, const ExpertRanks& expert_ranks = {});

  const ParallelOptions& options() const { return options_; }
  const RankLayout& layout() const { return layout_; }
  const ExpertPlacement& placement() const { return placement_; }
  const StageMap& stages() const { return stages_; }
  const RankCoordinates& coordinates() const { return coordinates_; }
  const NodeMap& nodes() const { return nodes_; }
  int stage() const { return coordinates_.pp; }
  bool is_first_stage() const { return stage() == 0; }
  bool is_last_stage() const { return stage() == layout_.pp() - 1; }
  // Between tensor-parallel regions each rank of a tp group holds a part of the tokens.
  bool sequence_parallel() const;
  // The first of the ranks that compute the same samples on this stage.
  bool is_first_of_sample() const { return coordinates_.tp == 0 && coordinates_.cp == 0; }

  Comm& world() const { return world_; }
  Comm& tp() const { return *tp_; }              // ranks that share the matrices of dense parts
  Comm& cp() const { return *cp_; }              // ranks that share the tokens of a sample
  Comm& pp() const { return *pp_; }              // the stages of this rank's pipeline, in order
  Comm& tp_cp() const { return *tp_cp_; }        // all that compute the same samples
  Comm& dp_cp() const { return *dp_cp_; }        // replicas of what tp divides
  Comm& tp_dp_cp() const { return *tp_dp_cp_; }  // a stage: replicas of what tp does not divide
  Comm& ep() const { return *ep_; }              // ranks that share a layer's routed experts
  Comm& etp() const { return *etp_; }            // ranks that share the matrices of routed experts
  Comm& etp_ep() const { return *etp_ep_; }      // all that hold parts of a layer's experts
  Comm& edp() const { return *edp_; }            // replicas of this rank's parts of experts
  Comm& etp_edp() const { return *etp_edp_; }    // replicas of what etp does not divide of experts
  Comm& node() const { return *node_; }          // the ranks on this rank's host, rising
  // Replicas of a tied embedding that two stages hold: dp_cp of the first and of the last. Only on
  // those, and only where the first is not the last.
  bool has_tied_group() const { return tied_ != nullptr; }
  Comm& tied() const { return *tied_; }

 private:
  std::shared_ptr<Comm> make(const char* group);
  std::shared_ptr<Comm> make(const std::vector<int>& ranks, const char* name);

  Comm& world_;
  ParallelOptions options_;
  ExpertPlacement placement_;
  RankLayout layout_;
  StageMap stages_;
  RankCoordinates coordinates_;
  NodeMap nodes_;
  std::map<std::vector<int>, std::shared_ptr<Comm>> by_ranks_;
  std::shared_ptr<Comm> tp_, cp_, pp_, tp_cp_, dp_cp_, tp_dp_cp_, ep_, etp_, etp_ep_, edp_,
      etp_edp_, node_, tied_;
};

// The ranks of tied() around `rank`, in rising order; empty on the stages between.
std::vector<int> tied_embedding_group(const RankLayout& layout, int rank);

}  // namespace sutor
