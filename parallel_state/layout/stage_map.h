// Which pipeline stage has which layers. The embedding is on the first stage, the final norm and
// the head are on the last.
#pragma once

#include <string>
#include <vector>

namespace sutor {

class StageMap {
 public:
  // `table`: "even" (the first stages take the remainder: 27 layers on 2 stages = 14 + 13) or the
  // number of layers of each stage, "14,13". Throws E0211 when there are more stages than layers or
  // the table does not add up.
  // stage_costs.h makes the map of `auto`, which depends on what trains.
  StageMap(int num_layers, int num_stages, const std::string& table = "even");
  // Numbers of layers of the stages, each at least one (E0211).
  explicit StageMap(const std::vector<int>& counts);

  int num_layers() const { return begin_.back(); }
  int num_stages() const { return static_cast<int>(begin_.size()) - 1; }
  int first_layer(int stage) const { return begin_[stage]; }
  int layers_of(int stage) const { return begin_[stage + 1] - begin_[stage]; }
  int stage_of(int layer) const;
  int local_layer(int layer) const { return layer - begin_[stage_of(layer)]; }

 private:
  std::vector<int> begin_;  // [stages + 1] first layer of each stage, then num_layers
};

}  // namespace sutor
