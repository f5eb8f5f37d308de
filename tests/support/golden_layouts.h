// The layouts of tests/golden/golden_groups.json, whose process groups Megatron-Core made.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "parallel_state/layout/parallel_options.h"

namespace sutor::testing {

struct GoldenLayout {
  std::string name;
  ParallelOptions options;
  int world = 0;
  nlohmann::json expected;  // the whole entry: "sizes", "groups"
};

inline std::vector<GoldenLayout> golden_layouts() {
  std::ifstream file(SUTOR_TEST_DATA "/golden/golden_groups.json");
  const auto golden = nlohmann::json::parse(file);
  std::vector<GoldenLayout> layouts;
  for (const auto& [name, entry] : golden.items()) {
    const auto& args = entry["args"];
    ParallelOptions options;
    options.tp = args.value("tp", 1);
    options.cp = args.value("cp", 1);
    options.pp = args.value("pp", 1);
    options.ep = args.value("ep", 1);
    options.etp = args.value("etp", 1);
    options.order = args.value("order", options.order);
    layouts.push_back({name, options, args["ws"], entry});
  }
  return layouts;
}

}  // namespace sutor::testing
