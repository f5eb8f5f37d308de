#include "csrc/comm/local_device.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "csrc/base/error.h"
#include "csrc/base/process/host.h"

namespace sutor {
namespace {

struct RankGpus {
  std::string host;
  VisibleGpus visible;
};

std::vector<RankGpus> gather(Comm& control, const VisibleGpus& own) {
  using nlohmann::json;
  const std::string text =
      json{host_name(), own.why_none, own.ids}.dump(-1, ' ', false, json::error_handler_t::replace);
  std::vector<RankGpus> ranks;
  for (const std::string& line : control.all_gather_text(text, "GPUs of the ranks")) {
    const json all = json::parse(line);
    ranks.push_back({all.at(0), {all.at(2), all.at(1)}});
  }
  return ranks;
}

[[noreturn]] void fail_without_gpu(const std::vector<RankGpus>& ranks, size_t rank) {
  const auto& [host, visible] = ranks[rank];
  constexpr const char* kRemedy =
      "Start as many ranks as GPUs, or compute on the CPUs with `device: cpu`.";
  if (visible.ids.empty()) {
    fail(ErrorCode::kNoGpu,
         "expected a GPU for each rank, found none on host {} for rank {}: {}. {}", host, rank,
         visible.why_none.empty() ? "no reason is known" : visible.why_none, kRemedy);
  }
  int ranks_here = 0;
  std::set<std::string> gpus;
  for (const RankGpus& other : ranks) {
    if (other.host != host) continue;
    ++ranks_here;
    gpus.insert(other.visible.ids.begin(), other.visible.ids.end());
  }
  fail(ErrorCode::kNoGpu,
       "expected a GPU for each rank, found {} ranks and {} GPU{} on host {} (rank {} is the first "
       "without one). {}",
       ranks_here, gpus.size(), gpus.size() == 1 ? "" : "s", host, rank, kRemedy);
}

}  // namespace

int local_device_of(Comm& control, const VisibleGpus& visible) {
  const std::vector<RankGpus> ranks = gather(control, visible);
  std::map<std::string, std::set<std::string>> taken;  // by host
  int own = 0;
  for (size_t r = 0; r < ranks.size(); ++r) {
    std::set<std::string>& here = taken[ranks[r].host];
    const std::vector<std::string>& ids = ranks[r].visible.ids;
    const auto id = std::find_if(ids.begin(), ids.end(),
                                 [&](const std::string& gpu) { return !here.contains(gpu); });
    if (id == ids.end()) fail_without_gpu(ranks, r);
    here.insert(*id);
    if (static_cast<int>(r) == control.rank()) own = static_cast<int>(id - ids.begin());
  }
  return own;
}

}  // namespace sutor
