// Which ranks run on one host. Only speed depends on it: what one rank fetches from the disk for a
// whole node, and what needs no network.
#pragma once

#include <string>
#include <vector>

#include "csrc/comm/comm.h"

namespace sutor {

class NodeMap {
 public:
  // Collective over the world. Ranks with equal host names are one node. SUTOR_NODE_NAME replaces
  // the host name of a process, for tests that need more nodes than there are hosts.
  explicit NodeMap(Comm& world);
  // `hosts`: of each rank. Nodes are numbered in the order of their first ranks.
  explicit NodeMap(const std::vector<std::string>& hosts);

  int num_nodes() const { return static_cast<int>(ranks_.size()); }
  int node_of(int rank) const { return node_of_[static_cast<size_t>(rank)]; }
  // In rising order.
  const std::vector<int>& ranks_of(int node) const { return ranks_[static_cast<size_t>(node)]; }

 private:
  std::vector<int> node_of_;             // [ranks of the world]
  std::vector<std::vector<int>> ranks_;  // [nodes]
};

}  // namespace sutor
