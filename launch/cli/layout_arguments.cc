#include "launch/cli/layout_arguments.h"

#include <cstdint>
#include <numeric>
#include <string>

#include "csrc/base/error.h"

namespace po = boost::program_options;

namespace sutor {

int smallest_world(const ParallelOptions& p) {
  const int64_t stage = std::lcm(int64_t{p.tp} * p.cp, int64_t{p.etp} * p.ep);
  const int64_t world = stage * p.pp;
  if (world < 1 || world > 1'000'000) {
    fail(ErrorCode::kBadLayout,
         "tp({}) cp({}) pp({}) ep({}) etp({}) ask for {} ranks, which makes no sense.", p.tp, p.cp,
         p.pp, p.ep, p.etp, world);
  }
  return static_cast<int>(world);
}

void add_layout_options(po::options_description& options) {
  const auto axis = [] { return po::value<int>()->default_value(1); };
  auto add = options.add_options();
  add("world", po::value<int>()->default_value(0), "ranks; 0 = the fewest that the sizes allow");
  add("tp", axis(), "tensor parallel size");
  add("cp", axis(), "context parallel size");
  add("ep", axis(), "expert parallel size");
  add("etp", axis(), "tensor parallel size inside experts");
  add("pp", axis(), "pipeline stages");
  add("order", po::value<std::string>()->default_value("tp-cp-ep-dp-pp"),
      "leftmost varies fastest");
}

LayoutArguments layout_from(const po::variables_map& values) {
  const auto number = [&](const char* name) { return values[name].as<int>(); };
  LayoutArguments layout{.parallel = {.tp = number("tp"),
                                      .cp = number("cp"),
                                      .pp = number("pp"),
                                      .ep = number("ep"),
                                      .etp = number("etp"),
                                      .order = values["order"].as<std::string>()},
                         .world = number("world")};
  if (layout.world == 0) layout.world = smallest_world(layout.parallel);
  return layout;
}

}  // namespace sutor
