// A rank's communicators and its coordinates in the layout, built once from a layout and the world
// and passed by reference. Groups of the same ranks share a communicator.
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
  // Between tensor-parallel regions the tokens are sharded over the ranks of tp.
  bool sequence_parallel() const;
  // Whether this is the first of the ranks that compute the same samples on this stage.
  bool is_first_of_sample() const { return coordinates_.tp == 0 && coordinates_.cp == 0; }

  Comm& world() const { return world_; }
  Comm& tp() const { return *tp_; }              // shards of dense matrices
  Comm& cp() const { return *cp_; }              // shards of the tokens of a sample
  Comm& pp() const { return *pp_; }              // the stages of this rank's pipeline, in order
  Comm& tp_cp() const { return *tp_cp_; }        // all that compute the same samples
  Comm& dp_cp() const { return *dp_cp_; }        // replicas of what tp shards
  Comm& tp_dp_cp() const { return *tp_dp_cp_; }  // a stage: replicas of what tp does not shard
  Comm& ep() const { return *ep_; }              // ranks among which a layer's experts are placed
  Comm& etp() const { return *etp_; }            // shards of the matrices of routed experts
  Comm& etp_ep() const { return *etp_ep_; }      // all shards of all of a layer's routed experts
  Comm& edp() const { return *edp_; }            // replicas of this rank's expert shards
  Comm& etp_edp() const { return *etp_edp_; }    // replicas of what etp does not shard of experts
  Comm& node() const { return *node_; }          // the ranks on this rank's host, rising
  // Replicas of a tied embedding, which the first and the last stage both have: dp_cp of both. Only
  // on those stages, and only where they differ.
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

// The ranks of tied() that include `rank`, in rising order; empty on the stages between.
std::vector<int> tied_embedding_group(const RankLayout& layout, int rank);

}  // namespace sutor
