#include "parallel_state/layout/node_map.h"

#include <cstdlib>
#include <map>

#include "csrc/comm/watchdog/process_identity.h"

namespace sutor {
namespace {

std::string node_name(int rank) {
  if (const char* name = std::getenv("SUTOR_NODE_NAME"); name && *name) return name;
  const std::string host = ProcessIdentity::of_this_process().host;
  // A host without a name may be any host: the rank gets a node of its own.
  return host.empty() ? "rank " + std::to_string(rank) : host;
}

}  // namespace

NodeMap::NodeMap(Comm& world)
    : NodeMap(world.all_gather_text(node_name(world.rank()), "host names")) {}

NodeMap::NodeMap(const std::vector<std::string>& hosts) {
  std::map<std::string, int> node_of_host;
  for (const std::string& host : hosts) {
    const auto [at, is_new] = node_of_host.emplace(host, num_nodes());
    if (is_new) ranks_.emplace_back();
    ranks_[static_cast<size_t>(at->second)].push_back(static_cast<int>(node_of_.size()));
    node_of_.push_back(at->second);
  }
}

}  // namespace sutor
