// Rank arithmetic over the dense and the expert grid, by Megatron-Core's rule.
#include "parallel_state/layout/rank_layout.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "csrc/base/error.h"

namespace sutor {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    const size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

bool contains(const std::vector<std::string>& values, std::string_view value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// Axes of size 1 may be left out of `order`; their position makes no difference.
std::vector<std::string> parse_order(const ParallelOptions& options, int dp, int edp) {
  static const std::vector<std::string> axes = {"tp", "cp", "ep", "dp", "pp"};
  std::vector<std::string> order = split(options.order, '-');
  for (size_t i = 0; i < order.size(); ++i) {
    if (!contains(axes, order[i])) {
      fail(ErrorCode::kBadLayout,
           "parallel.order `{}` has the unknown axis `{}`. Axes are tp, cp, ep, dp, pp.",
           options.order, order[i]);
    }
    if (std::count(order.begin(), order.end(), order[i]) > 1) {
      fail(ErrorCode::kBadLayout, "parallel.order `{}` names `{}` twice.", options.order, order[i]);
    }
  }
  const int sizes[] = {std::max(options.tp, options.etp), options.cp, options.ep, std::max(dp, edp),
                       options.pp};
  for (size_t i = 0; i < axes.size(); ++i) {
    if (contains(order, axes[i])) continue;
    if (sizes[i] != 1) {
      fail(ErrorCode::kBadLayout,
           "parallel.order `{}` leaves out `{}`, whose size is {}. Add it, e.g. tp-cp-ep-dp-pp.",
           options.order, axes[i], sizes[i]);
    }
    order.push_back(axes[i]);
  }
  return order;
}

// How to start with a number of ranks that the sizes divide; empty for sizes that make no sense.
std::string start_hint(const ParallelOptions& o, int world_size) {
  constexpr int64_t kMostRanks = 100'000;
  const int64_t dense = int64_t{o.tp} * o.cp, expert = int64_t{o.etp} * o.ep;
  if (dense > kMostRanks || expert > kMostRanks) return "";
  const int64_t fewest = std::lcm(dense, expert) * o.pp;
  if (fewest > kMostRanks) return "";
  return fmt::format(
      " Start it on {} ranks, or a multiple: `mpiexec -n {} sutor ...`{}; or choose other sizes "
      "in `parallel`.",
      fewest, fewest, world_size == 1 ? " (this is one process)" : "");
}

}  // namespace

RankLayout::RankLayout(const ParallelOptions& options, int world_size)
    : options_(options), world_size_(world_size) {
  check_sizes();
  dp_ = world_size / (options.tp * options.cp * options.pp);
  edp_ = world_size / (options.etp * options.ep * options.pp);
  const std::vector<std::string> order = parse_order(options, dp_, edp_);
  dense_ = make_grid(order, /*expert=*/false);
  expert_ = make_grid(order, /*expert=*/true);
  if (order.back() != "pp" && options.pp > 1 && dp_ != edp_) {
    fail(ErrorCode::kBadLayout,
         "parallel.order `{}` does not end in pp, so dp and edp must be equal: dp = {} / (tp {} * "
         "cp "
         "{} * pp {}) = {}, edp = {} / (etp {} * ep {} * pp {}) = {}. Put pp last.",
         options.order, world_size, options.tp, options.cp, options.pp, dp_, world_size,
         options.etp, options.ep, options.pp, edp_);
  }
  check_same_pipelines();
}

void RankLayout::check_sizes() const {
  const ParallelOptions& o = options_;
  const std::pair<const char*, int> sizes[] = {{"tp", o.tp},   {"cp", o.cp},
                                               {"pp", o.pp},   {"ep", o.ep},
                                               {"etp", o.etp}, {"world size", world_size_}};
  for (const auto& [name, size] : sizes) {
    if (size < 1) fail(ErrorCode::kBadLayout, "{} is {}, but must be at least 1.", name, size);
  }
  // In 64 bits, so that a mistyped size ends in this message and not in an overflow.
  const int64_t dense = int64_t{o.tp} * o.pp * o.cp;
  if (dense > world_size_ || world_size_ % dense != 0) {
    fail(ErrorCode::kBadLayout, "tp({}) * pp({}) * cp({}) = {} does not divide world size {}.{}",
         o.tp, o.pp, o.cp, dense, world_size_, start_hint(o, world_size_));
  }
  const int64_t expert = int64_t{o.etp} * o.ep * o.pp;
  if (expert > world_size_ || world_size_ % expert != 0) {
    fail(ErrorCode::kBadLayout, "etp({}) * ep({}) * pp({}) = {} does not divide world size {}.{}",
         o.etp, o.ep, o.pp, expert, world_size_, start_hint(o, world_size_));
  }
}

RankLayout::Grid RankLayout::make_grid(const std::vector<std::string>& order, bool expert) const {
  Grid grid;
  int stride = 1;
  for (const std::string& axis : order) {
    Axis a;
    if (axis == "tp") a = expert ? Axis{"etp", options_.etp} : Axis{"tp", options_.tp};
    if (axis == "dp") a = expert ? Axis{"edp", edp_} : Axis{"dp", dp_};
    if (axis == "pp") a = {"pp", options_.pp};
    if (axis == "cp") a = {"cp", expert ? 1 : options_.cp};
    if (axis == "ep") a = {"ep", expert ? options_.ep : 1};
    a.stride = stride;
    stride *= a.size;
    grid.push_back(a);
  }
  return grid;
}

void RankLayout::check_same_pipelines() const {
  const auto dense = grid_groups(dense_, {"pp"});
  const auto expert = grid_groups(expert_, {"pp"});
  for (size_t i = 0; i < dense.size(); ++i) {
    if (dense[i] == expert[i]) continue;
    fail(ErrorCode::kBadLayout,
         "with order `{}` the dense layers put ranks [{}] into one pipeline, the experts ranks "
         "[{}]. "
         "Put pp last in the order.",
         options_.order, fmt::join(dense[i], ", "), fmt::join(expert[i], ", "));
  }
}

int RankLayout::coordinate(const Grid& grid, std::string_view axis, int rank) {
  for (const Axis& a : grid) {
    if (a.name == axis) return rank / a.stride % a.size;
  }
  return 0;
}

RankCoordinates RankLayout::coordinates(int rank) const {
  SUTOR_ASSERT(rank >= 0 && rank < world_size_);
  return {.tp = coordinate(dense_, "tp", rank),
          .cp = coordinate(dense_, "cp", rank),
          .dp = coordinate(dense_, "dp", rank),
          .pp = coordinate(dense_, "pp", rank),
          .etp = coordinate(expert_, "etp", rank),
          .ep = coordinate(expert_, "ep", rank),
          .edp = coordinate(expert_, "edp", rank)};
}

// In a grid whose leftmost axis has stride 1, rising ranks visit the groups in the order of their
// other axes and the members of a group in the order of the group's axes: both leftmost fastest.
std::vector<std::vector<int>> RankLayout::grid_groups(
    const Grid& grid, const std::vector<std::string_view>& axes) const {
  std::vector<std::vector<int>> groups;
  std::vector<int> group_at(world_size_, -1);  // by the first rank of the group
  for (int rank = 0; rank < world_size_; ++rank) {
    int first = rank;
    for (std::string_view axis : axes) {
      for (const Axis& a : grid) {
        if (a.name == axis) first -= rank / a.stride % a.size * a.stride;
      }
    }
    if (group_at[first] < 0) {
      group_at[first] = static_cast<int>(groups.size());
      groups.emplace_back();
    }
    groups[group_at[first]].push_back(rank);
  }
  return groups;
}

std::vector<std::vector<int>> RankLayout::groups(std::string_view name) const {
  if (name == "mp" || name == "mp(tp-pp)") name = "tp-pp";
  if (name == "world") name = "tp-cp-dp-pp";
  if (name == "embd" || name == "pos_embd") {
    std::vector<std::vector<int>> result = groups("pp");
    for (std::vector<int>& group : result) {
      const int last = group.back();
      group.resize(1);
      if (name == "embd" && last != group[0]) group.push_back(last);
    }
    return result;
  }
  const std::vector<std::string> axes = split(name, '-');
  const auto all_in = [&](const std::vector<std::string>& known) {
    return std::all_of(axes.begin(), axes.end(),
                       [&](const std::string& axis) { return contains(known, axis); });
  };
  const std::vector<std::string_view> views(axes.begin(), axes.end());
  if (all_in({"tp", "cp", "dp", "pp"})) return grid_groups(dense_, views);
  if (all_in({"etp", "ep", "edp", "pp"})) return grid_groups(expert_, views);
  fail(
      ErrorCode::kBadLayout,
      "unknown group `{}`: join tp, cp, dp, pp by `-`, or etp, ep, edp, pp; or mp, embd, pos_embd, "
      "world.",
      name);
}

std::vector<int> RankLayout::group_of(std::string_view name, int rank) const {
  for (std::vector<int>& group : groups(name)) {
    if (std::find(group.begin(), group.end(), rank) != group.end()) return std::move(group);
  }
  return {};
}

std::string RankLayout::describe() const {
  return fmt::format(
      "{} ranks = tp {} x cp {} x dp {} x pp {}; experts: etp {} x ep {} x edp {} x pp {}",
      world_size_, tp(), cp(), dp(), pp(), etp(), ep(), edp(), pp());
}

}  // namespace sutor
