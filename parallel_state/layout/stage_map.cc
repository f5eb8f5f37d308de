// Layers to pipeline stages: even, or a table from the recipe.
#include "parallel_state/layout/stage_map.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "csrc/base/error.h"

namespace sutor {
namespace {

std::vector<int> parse_table(const std::string& table) {
  std::vector<int> counts;
  std::istringstream stream(table);
  std::string part;
  while (std::getline(stream, part, ',')) {
    int count = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), count);
    if (error != std::errc() || end != part.data() + part.size() || count < 1) {
      fail(ErrorCode::kBadLayout,
           "parallel.stages `{}`: `{}` is no number of layers. Give `even`, `auto` or e.g. "
           "`14,13`.",
           table, part);
    }
    counts.push_back(count);
  }
  return counts;
}

}  // namespace

StageMap::StageMap(int num_layers, int num_stages, const std::string& table) {
  if (num_stages < 1 || num_stages > num_layers) {
    fail(ErrorCode::kBadLayout,
         "{} layers cannot be split over pp({}) stages: a stage needs at least one layer.",
         num_layers, num_stages);
  }
  if (table == "auto" && num_stages > 1) {
    fail(ErrorCode::kBadLayout,
         "parallel.stages `auto` splits by what trains, which is not known here. Give the table, "
         "e.g. `14,13`.");
  }
  std::vector<int> counts;
  if (table == "even" || table == "auto") {
    for (int stage = 0; stage < num_stages; ++stage) {
      counts.push_back(num_layers / num_stages + (stage < num_layers % num_stages ? 1 : 0));
    }
  } else {
    counts = parse_table(table);
    int64_t sum = 0;
    for (int count : counts) sum += count;
    if (static_cast<int>(counts.size()) != num_stages || sum != num_layers) {
      fail(ErrorCode::kBadLayout,
           "parallel.stages `{}` has {} stages with {} layers, but pp is {} and the model has {} "
           "layers.",
           table, counts.size(), sum, num_stages, num_layers);
    }
  }
  *this = StageMap(counts);
}

StageMap::StageMap(const std::vector<int>& counts) : begin_{0} {
  for (const int count : counts) {
    if (count < 1) {
      fail(ErrorCode::kBadLayout, "parallel.stages {}: each stage needs at least one layer.",
           fmt::join(counts, ","));
    }
    begin_.push_back(begin_.back() + count);
  }
}

int StageMap::stage_of(int layer) const {
  SUTOR_ASSERT(layer >= 0 && layer < num_layers());
  return static_cast<int>(std::upper_bound(begin_.begin(), begin_.end(), layer) - begin_.begin()) -
         1;
}

}  // namespace sutor
