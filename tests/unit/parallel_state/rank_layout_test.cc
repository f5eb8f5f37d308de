// Rank arithmetic against Megatron-Core's own rank lists, and its properties on all small layouts.
#include "parallel_state/rank_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "tests/support/message_of.h"

namespace sutor {
namespace {

using Groups = std::vector<std::vector<int>>;

using testing::message_of;

// Every layout of 1..16 ranks in the default order whose sizes fit.
template <typename Function>
void for_all_layouts(Function&& function) {
  for (int world = 1; world <= 16; ++world) {
    for (int pp = 1; pp <= world; ++pp) {
      for (int tp = 1; tp * pp <= world; ++tp) {
        for (int cp = 1; cp * tp * pp <= world; ++cp) {
          if (world % (tp * cp * pp) != 0) continue;
          for (int etp = 1; etp * pp <= world; ++etp) {
            for (int ep = 1; ep * etp * pp <= world; ++ep) {
              if (world % (ep * etp * pp) != 0) continue;
              const ParallelOptions options{.tp = tp, .cp = cp, .pp = pp, .ep = ep, .etp = etp};
              function(RankLayout(options, world));
            }
          }
        }
      }
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
  std::ifstream file(SUTOR_TEST_DATA "/golden/golden_groups.json");
  const auto golden = nlohmann::json::parse(file);
  ASSERT_EQ(golden.size(), 7U);
  for (const auto& [name, layout_json] : golden.items()) {
    const auto& args = layout_json["args"];
    ParallelOptions options;
    options.tp = args.value("tp", 1);
    options.cp = args.value("cp", 1);
    options.pp = args.value("pp", 1);
    options.ep = args.value("ep", 1);
    options.etp = args.value("etp", 1);
    options.order = args.value("order", options.order);
    const RankLayout layout(options, args["ws"]);
    EXPECT_EQ(layout.dp(), layout_json["sizes"]["dp"]) << name;
    EXPECT_EQ(layout.edp(), layout_json["sizes"]["edp"]) << name;
    EXPECT_EQ(layout_json["groups"].size(), 16U);
    for (const auto& [group, ranks] : layout_json["groups"].items()) {
      EXPECT_EQ(layout.groups(group), ranks.get<Groups>()) << name << " " << group;
    }
  }
}

TEST(RankLayout, EveryKindOfGroupPartitionsTheWorldInAllSmallLayouts) {
  for_all_layouts([](const RankLayout& l) {
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
    // The experts of a stage live on the ranks of that stage.
    ASSERT_EQ(l.groups("tp-dp-cp"), l.groups("etp-ep-edp")) << l.describe();
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

TEST(RankLayout, ReplicasOfAnExpertShareStageExpertRankAndShard) {
  for_all_layouts([](const RankLayout& l) {
    for (const std::vector<int>& group : l.groups("edp")) {
      const RankCoordinates first = l.coordinates(group[0]);
      for (int rank : group) {
        const RankCoordinates c = l.coordinates(rank);
        ASSERT_EQ(c.pp, first.pp);
        ASSERT_EQ(c.ep, first.ep);
        ASSERT_EQ(c.etp, first.etp);
      }
    }
  });
}

TEST(RankLayout, OneRankIsAGroupOfEveryKind) {
  const RankLayout layout({}, 1);
  for (const char* name : {"tp", "cp", "dp", "pp", "ep", "etp", "edp", "mp", "embd", "pos_embd"}) {
    EXPECT_EQ(layout.groups(name), Groups{{0}}) << name;
  }
}

TEST(RankLayout, EmbeddingGroupsHoldTheFirstAndTheLastStage) {
  const RankLayout layout({.tp = 2, .pp = 3}, 6);
  EXPECT_EQ(layout.groups("embd"), (Groups{{0, 4}, {1, 5}}));
  EXPECT_EQ(layout.groups("pos_embd"), (Groups{{0}, {1}}));
  EXPECT_TRUE(layout.group_of("embd", 2).empty());
}

TEST(RankLayout, RefusalsShowTheArithmetic) {
  const auto refuse = [](const ParallelOptions& options, int world) {
    return message_of([&] { RankLayout(options, world); }, 211);
  };
  EXPECT_EQ(refuse({.tp = 2, .cp = 3, .pp = 2}, 16),
            "tp(2) * pp(2) * cp(3) = 12 does not divide world size 16.");
  EXPECT_EQ(refuse({.tp = 2, .pp = 2, .ep = 4, .etp = 2}, 8),
            "etp(2) * ep(4) * pp(2) = 16 does not divide world size 8.");
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
  const std::string text = message_of(
      [] { RankLayout({.cp = 2, .pp = 2, .ep = 2, .order = "tp-cp-pp-ep-dp"}, 16); }, 211);
  EXPECT_NE(text.find("Put pp last"), std::string::npos) << text;
  const std::string unequal =
      message_of([] { RankLayout({.pp = 2, .ep = 2, .order = "tp-cp-pp-ep-dp"}, 8); }, 211);
  EXPECT_NE(unequal.find("dp and edp must be equal"), std::string::npos) << unequal;
}

TEST(RankLayout, AxesOfSizeOneMayBeLeftOutOfTheOrder) {
  const RankLayout layout({.tp = 2, .order = "tp-dp"}, 4);
  EXPECT_EQ(layout.groups("dp"), (Groups{{0, 2}, {1, 3}}));
}

TEST(RankLayout, UnknownGroupNamesAreRefused) {
  const RankLayout layout({}, 2);
  message_of([&] { layout.groups("tp-ep"); }, 211);  // axes of two grids
  message_of([&] { layout.groups("dq"); }, 211);
}

}  // namespace
}  // namespace sutor
