// Ranks by host.
#include "parallel_state/layout/node_map.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

TEST(NodeMap, NumbersHostsInTheOrderOfTheirFirstRanks) {
  const NodeMap nodes({"b", "a", "b", "c", "a"});
  EXPECT_EQ(nodes.num_nodes(), 3);
  EXPECT_EQ(nodes.ranks_of(0), (std::vector<int>{0, 2}));
  EXPECT_EQ(nodes.ranks_of(1), (std::vector<int>{1, 4}));
  EXPECT_EQ(nodes.node_of(3), 2);
}

}  // namespace
}  // namespace sutor
