// Rank arithmetic against Megatron-Core's own rank lists, and its properties on all small layouts
// and on large ones.
#include "parallel_state/layout/rank_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <set>

#include "parallel_state/placement/expert_placement.h"
#include "tests/support/expect_error.h"
#include "tests/support/golden_layouts.h"

namespace sutor {
namespace {

using Groups = std::vector<std::vector<int>>;

using testing::expect_error;

const std::string kDefaultOrder = ParallelOptions{}.order;
// Other orders in which many layouts are legal: with pp last all are, else those in which both
// grids agree.
const std::vector<std::string> kOtherOrders = {"cp-tp-ep-dp-pp", "ep-dp-cp-tp-pp", "dp-tp-ep-cp-pp",
                                               "tp-cp-pp-ep-dp", "pp-tp-cp-ep-dp"};

// Every layout of 1..16 ranks in this order that is legal; returns how many.
template <typename Function>
int for_all_layouts(const std::string& order, Function&& function) {
  int layouts = 0;
  for (int world = 1; world <= 16; ++world) {
    for (int pp = 1; pp <= world; ++pp) {
      for (int tp = 1; tp * pp <= world; ++tp) {
        for (int cp = 1; cp * tp * pp <= world; ++cp) {
          if (world % (tp * cp * pp) != 0) continue;
          for (int etp = 1; etp * pp <= world; ++etp) {
            for (int ep = 1; ep * etp * pp <= world; ++ep) {
              if (world % (ep * etp * pp) != 0) continue;
              ParallelOptions options{.tp = tp, .cp = cp, .pp = pp, .ep = ep, .etp = etp};
              options.order = order;
              // With pp last every size that divides is legal.
              std::optional<RankLayout> layout;
              try {
                layout.emplace(options, world);
              } catch (const Error& error) {
                EXPECT_FALSE(order.ends_with("-pp")) << error.what();
                continue;
              }
              function(*layout);
              ++layouts;
            }
          }
        }
      }
    }
  }
  return layouts;
}

template <typename Function>
void for_all_layouts(Function&& function) {
  for_all_layouts(kDefaultOrder, function);
}

int random_divisor(int number, std::mt19937& random) {
  std::vector<int> divisors;
  for (int d = 1; d <= number; ++d) {
    if (number % d == 0) divisors.push_back(d);
  }
  return divisors[random() % divisors.size()];
}

// Random layouts of large worlds, up to 1344 nodes of 8 ranks and 1,024 experts a layer, in the
// default order and with pp last in others.
template <typename Function>
void for_large_layouts(Function&& function) {
  std::mt19937 random(3);
  for (const int world : {96, 768, 1024, 2560, 4096, 6144, 8192, 10752}) {
    for (int sample = 0; sample < 12; ++sample) {
      ParallelOptions options;
      options.pp = random_divisor(std::gcd(world, 5376), random);
      const int stage = world / options.pp;
      options.tp = random_divisor(std::gcd(stage, 8), random);
      options.cp = random_divisor(std::gcd(stage / options.tp, 16), random);
      options.etp = random_divisor(std::gcd(stage, 4), random);
      options.ep = random_divisor(std::gcd(stage / options.etp, 1024), random);
      if (sample % 3 == 2) options.order = kOtherOrders[random() % 3];
      function(RankLayout(options, world));
    }
  }
}

void expect_partition(const RankLayout& layout, const std::string& name, size_t size) {
  std::vector<int> seen(layout.world_size(), 0);
  for (const std::vector<int>& group : layout.groups(name)) {
    ASSERT_EQ(group.size(), size) << layout.describe() << " " << name;
    ASSERT_TRUE(std::is_sorted(group.begin(), group.end()));
    for (int rank : group) ++seen[rank];
  }
  ASSERT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; })) << name;
}

TEST(RankLayout, EqualsMegatronOnTheGoldenLayouts) {
  const std::vector<testing::GoldenLayout> golden = testing::golden_layouts();
  ASSERT_EQ(golden.size(), 7U);
  for (const auto& [name, options, world, layout_json] : golden) {
    const RankLayout layout(options, world);
    EXPECT_EQ(layout.dp(), layout_json["sizes"]["dp"]) << name;
    EXPECT_EQ(layout.edp(), layout_json["sizes"]["edp"]) << name;
    EXPECT_EQ(layout_json["groups"].size(), 16U);
    for (const auto& [group, ranks] : layout_json["groups"].items()) {
      EXPECT_EQ(layout.groups(group), ranks.get<Groups>()) << name << " " << group;
    }
  }
}

void expect_partitions(const RankLayout& l) {
  expect_partition(l, "tp", l.tp());
  expect_partition(l, "cp", l.cp());
  expect_partition(l, "dp", l.dp());
  expect_partition(l, "pp", l.pp());
  expect_partition(l, "ep", l.ep());
  expect_partition(l, "etp", l.etp());
  expect_partition(l, "edp", l.edp());
  expect_partition(l, "dp-cp", l.dp() * l.cp());
  expect_partition(l, "tp-dp-cp", l.tp() * l.dp() * l.cp());
  expect_partition(l, "mp", l.tp() * l.pp());
  expect_partition(l, "etp-ep", l.etp() * l.ep());
  expect_partition(l, "etp-ep-pp", l.etp() * l.ep() * l.pp());
  expect_partition(l, "world", l.world_size());
}

// [rank]: the number of its group.
std::vector<int> group_numbers(const RankLayout& layout, const char* name) {
  std::vector<int> numbers(layout.world_size(), -1);
  int number = 0;
  for (const std::vector<int>& group : layout.groups(name)) {
    for (const int rank : group) numbers[rank] = number;
    ++number;
  }
  return numbers;
}

// No two ranks are together in both kinds of groups.
void expect_orthogonal(const RankLayout& layout, const char* a, const char* b) {
  const std::vector<int> in_a = group_numbers(layout, a), in_b = group_numbers(layout, b);
  std::vector<std::pair<int, int>> places;
  for (int rank = 0; rank < layout.world_size(); ++rank)
    places.emplace_back(in_a[rank], in_b[rank]);
  std::sort(places.begin(), places.end());
  const auto twice = std::adjacent_find(places.begin(), places.end());
  ASSERT_EQ(twice, places.end()) << layout.describe() << ": groups " << twice->first << " of " << a
                                 << " and " << twice->second << " of " << b
                                 << " meet in more than one rank";
}

void expect_orthogonal_axes(const RankLayout& layout) {
  const std::vector<const char*> dense = {"tp", "cp", "dp", "pp"};
  const std::vector<const char*> expert = {"etp", "ep", "edp", "pp"};
  for (const auto& axes : {dense, expert}) {
    for (size_t i = 0; i < axes.size(); ++i) {
      for (size_t j = 0; j < i; ++j) expect_orthogonal(layout, axes[i], axes[j]);
    }
  }
  // Of several axes together.
  for (const auto& [a, b] :
       {std::pair{"dp-cp", "mp"}, {"tp-dp-cp", "pp"}, {"etp-ep", "edp"}, {"etp-ep-pp", "edp"}}) {
    expect_orthogonal(layout, a, b);
  }
}

// Ranks [i] of both grids stand in the same pipeline.
void expect_one_kind_of_pipeline(const RankLayout& layout) {
  std::map<std::vector<int>, std::vector<int>> by_place;  // in the expert grid
  for (int rank = 0; rank < layout.world_size(); ++rank) {
    const RankCoordinates c = layout.coordinates(rank);
    by_place[{c.etp, c.ep, c.edp}].push_back(rank);
  }
  std::set<std::vector<int>> expert;
  for (const auto& [place, ranks] : by_place) expert.insert(ranks);
  const Groups dense = layout.groups("pp");
  ASSERT_EQ(expert, std::set<std::vector<int>>(dense.begin(), dense.end())) << layout.describe();
  // So the experts of a stage are on the ranks of that stage.
  Groups stages = layout.groups("tp-dp-cp"), expert_stages = layout.groups("etp-ep-edp");
  ASSERT_EQ(stages, expert_stages) << layout.describe();
}

// The replicas of an expert own the same experts, and one group of etp x ep ranks owns each expert
// of a layer `etp` times: once a shard.
void expect_replicas_own_the_same_experts(const RankLayout& layout, int num_experts) {
  const ExpertPlacement placement(num_experts, layout.ep());
  std::vector<std::vector<int>> owned(layout.ep());  // by ep rank
  for (int expert = 0; expert < num_experts; ++expert) {
    owned[placement.ep_rank_of(0, expert)].push_back(expert);
  }
  for (const std::vector<int>& group : layout.groups("edp")) {
    const RankCoordinates first = layout.coordinates(group[0]);
    for (const int rank : group) {
      const RankCoordinates c = layout.coordinates(rank);
      ASSERT_TRUE(c.pp == first.pp && c.etp == first.etp) << layout.describe() << " rank " << rank;
      ASSERT_TRUE(owned[c.ep] == owned[first.ep]) << layout.describe() << " rank " << rank;
    }
  }
  for (const std::vector<int>& group : layout.groups("etp-ep")) {
    std::vector<int> owners(num_experts, 0);
    for (const int rank : group) {
      for (const int expert : owned[layout.coordinates(rank).ep]) ++owners[expert];
    }
    ASSERT_EQ(owners, std::vector<int>(num_experts, layout.etp())) << layout.describe();
  }
}

TEST(RankLayout, EveryKindOfGroupPartitionsTheWorldInAllSmallLayouts) {
  for_all_layouts(expect_partitions);
}

TEST(RankLayout, GroupsOfOtherAxesMeetInAtMostOneRank) { for_all_layouts(expect_orthogonal_axes); }

TEST(RankLayout, BothGridsHaveTheSamePipelines) { for_all_layouts(expect_one_kind_of_pipeline); }

TEST(RankLayout, P07_ReplicasOfAnExpertOwnTheSameExperts) {
  for_all_layouts([](const RankLayout& layout) {
    expect_replicas_own_the_same_experts(layout, 2 * layout.ep());
  });
}

TEST(RankLayout, OtherOrdersKeepTheSameProperties) {
  for (const std::string& order : kOtherOrders) {
    const int layouts = for_all_layouts(order, [](const RankLayout& layout) {
      expect_partitions(layout);
      expect_orthogonal_axes(layout);
      expect_one_kind_of_pipeline(layout);
      expect_replicas_own_the_same_experts(layout, 2 * layout.ep());
    });
    EXPECT_GT(layouts, 100) << order;
  }
}

TEST(RankLayout, LargeWorldsKeepTheSameProperties) {
  for_large_layouts([](const RankLayout& layout) {
    expect_partitions(layout);
    expect_orthogonal_axes(layout);
    expect_one_kind_of_pipeline(layout);
    expect_replicas_own_the_same_experts(layout, 1024);
  });
}

TEST(RankLayout, CoordinatesAreUniqueInBothGridsAndAgreeWithTheGroups) {
  for_all_layouts([](const RankLayout& l) {
    std::set<std::vector<int>> dense, expert;
    for (int rank = 0; rank < l.world_size(); ++rank) {
      const RankCoordinates c = l.coordinates(rank);
      dense.insert({c.tp, c.cp, c.dp, c.pp});
      expert.insert({c.etp, c.ep, c.edp, c.pp});
      const int place[] = {c.tp, c.cp, c.dp, c.pp, c.etp, c.ep, c.edp};
      const char* names[] = {"tp", "cp", "dp", "pp", "etp", "ep", "edp"};
      for (int i = 0; i < 7; ++i) {
        ASSERT_EQ(l.group_of(names[i], rank).at(place[i]), rank) << l.describe() << names[i];
      }
    }
    ASSERT_EQ(dense.size(), static_cast<size_t>(l.world_size()));
    ASSERT_EQ(expert.size(), static_cast<size_t>(l.world_size()));
  });
}

TEST(RankLayout, OneRankIsAGroupOfEveryKind) {
  const RankLayout layout({}, 1);
  for (const char* name : {"tp", "cp", "dp", "pp", "ep", "etp", "edp", "mp", "embd", "pos_embd"}) {
    EXPECT_EQ(layout.groups(name), Groups{{0}}) << name;
  }
}

TEST(RankLayout, EmbeddingGroupsHaveTheFirstAndTheLastStage) {
  const RankLayout layout({.tp = 2, .pp = 3}, 6);
  EXPECT_EQ(layout.groups("embd"), (Groups{{0, 4}, {1, 5}}));
  EXPECT_EQ(layout.groups("pos_embd"), (Groups{{0}, {1}}));
  EXPECT_TRUE(layout.group_of("embd", 2).empty());
}

TEST(RankLayout, RefusalsShowTheArithmetic) {
  const auto refuse = [](const ParallelOptions& options, int world) {
    return expect_error(ErrorCode::kBadLayout, [&] { RankLayout(options, world); });
  };
  EXPECT_EQ(refuse({.tp = 2, .cp = 3, .pp = 2}, 16),
            "tp(2) * pp(2) * cp(3) = 12 does not divide world size 16. Start it on 12 ranks, or a "
            "multiple: `mpiexec -n 12 sutor ...`; or choose other sizes in `parallel`.");
  EXPECT_EQ(refuse({.tp = 2, .pp = 2, .ep = 4, .etp = 2}, 8),
            "etp(2) * ep(4) * pp(2) = 16 does not divide world size 8. Start it on 16 ranks, or a "
            "multiple: `mpiexec -n 16 sutor ...`; or choose other sizes in `parallel`.");
  EXPECT_NE(refuse({.ep = 2}, 1).find("`mpiexec -n 2 sutor ...` (this is one process)"),
            std::string::npos);
  EXPECT_EQ(refuse({.tp = 65536, .cp = 65536, .pp = 65536}, 8),
            "tp(65536) * pp(65536) * cp(65536) = 281474976710656 does not divide world size 8.");
  EXPECT_NE(refuse({.tp = 0}, 8).find("tp is 0"), std::string::npos);
  EXPECT_NE(refuse({}, 0).find("world size is 0"), std::string::npos);
  EXPECT_NE(refuse({.order = "tp-xx-pp"}, 1).find("unknown axis `xx`"), std::string::npos);
  EXPECT_NE(refuse({.order = "tp-tp-pp"}, 1).find("`tp` twice"), std::string::npos);
  EXPECT_NE(refuse({.order = ""}, 1).find("unknown axis ``"), std::string::npos);
  EXPECT_NE(refuse({.cp = 2, .order = "tp-ep-dp-pp"}, 2).find("leaves out `cp`, whose size is 2"),
            std::string::npos);
}

TEST(RankLayout, PipelinesOfBothGridsMustAgree) {
  // ws 16, pp 2, cp 2, ep 2 in this order is refused by Megatron-Core too.
  const std::string text = expect_error(ErrorCode::kBadLayout, [] {
    RankLayout({.cp = 2, .pp = 2, .ep = 2, .order = "tp-cp-pp-ep-dp"}, 16);
  });
  EXPECT_NE(text.find("Put pp last"), std::string::npos) << text;
  const std::string unequal = expect_error(
      ErrorCode::kBadLayout, [] { RankLayout({.pp = 2, .ep = 2, .order = "tp-cp-pp-ep-dp"}, 8); });
  EXPECT_NE(unequal.find("dp and edp must be equal"), std::string::npos) << unequal;
}

TEST(RankLayout, AxesOfSizeOneMayBeLeftOutOfTheOrder) {
  const RankLayout layout({.tp = 2, .order = "tp-dp"}, 4);
  EXPECT_EQ(layout.groups("dp"), (Groups{{0, 2}, {1, 3}}));
}

TEST(RankLayout, UnknownGroupNamesAreRefused) {
  const RankLayout layout({}, 2);
  expect_error(ErrorCode::kBadLayout, [&] { layout.groups("tp-ep"); });  // axes of two grids
  expect_error(ErrorCode::kBadLayout, [&] { layout.groups("dq"); });
}

}  // namespace
}  // namespace sutor
