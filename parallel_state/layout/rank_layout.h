// Which rank does what: pure arithmetic, no MPI, no torch. As in Megatron-Core, two grids cover one
// world: the dense grid (tp, cp, dp, pp) and the expert grid (etp, ep, edp, pp). They share the
// pipeline stages, so a stage has tp * cp * dp = etp * ep * edp ranks.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "parallel_state/layout/parallel_options.h"

namespace sutor {

struct RankCoordinates {
  int tp = 0, cp = 0, dp = 0, pp = 0;  // in the dense grid
  int etp = 0, ep = 0, edp = 0;        // in the expert grid; pp is the same in both
};

class RankLayout {
 public:
  // Uses only the axes' sizes and `order` of `options`. The leftmost axis of `order` varies fastest
  // over ranks; in the expert grid "tp" stands for etp and "dp" for edp. Throws E0211 with the
  // arithmetic for sizes below 1, sizes that do not divide the world, an unknown, repeated or
  // missing axis in `order`, and grids whose pipeline groups would differ.
  RankLayout(const ParallelOptions& options, int world_size);

  int world_size() const { return world_size_; }
  int tp() const { return options_.tp; }
  int cp() const { return options_.cp; }
  int dp() const { return dp_; }  // world / (tp * cp * pp)
  int pp() const { return options_.pp; }
  int ep() const { return options_.ep; }
  int etp() const { return options_.etp; }
  int edp() const { return edp_; }  // world / (etp * ep * pp)

  RankCoordinates coordinates(int rank) const;

  // All groups of a kind; together they contain every rank once, except embd and pos_embd.
  // `name`: any of tp cp dp pp joined by "-" (dense grid: "dp-cp"), any of etp ep edp pp joined by
  // "-" (expert grid: "etp-ep-pp"), "mp" (= tp-pp), "embd" (first and last stage of each pipeline),
  // "pos_embd" (first stage), "world". The order of groups and of the ranks in a group is
  // Megatron-Core's. Throws E0211 for another name.
  std::vector<std::vector<int>> groups(std::string_view name) const;
  // The group of `name` that contains `rank`; empty when none does (embd, pos_embd).
  std::vector<int> group_of(std::string_view name, int rank) const;

  // "8 ranks = tp 2 x cp 1 x dp 2 x pp 2; experts: etp 1 x ep 2 x edp 2 x pp 2"
  std::string describe() const;

 private:
  struct Axis {
    std::string_view name;
    int size = 1;
    int stride = 1;  // ranks between neighbours on this axis
  };
  using Grid = std::vector<Axis>;  // leftmost (stride 1) first

  Grid make_grid(const std::vector<std::string>& order, bool expert) const;
  std::vector<std::vector<int>> grid_groups(const Grid& grid,
                                            const std::vector<std::string_view>& axes) const;
  static int coordinate(const Grid& grid, std::string_view axis, int rank);
  void check_sizes() const;
  void check_same_pipelines() const;

  ParallelOptions options_;
  int world_size_ = 1;
  int dp_ = 1, edp_ = 1;
  Grid dense_, expert_;
};

}  // namespace sutor
