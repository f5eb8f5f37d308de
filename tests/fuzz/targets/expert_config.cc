// An expert config.
#include "parallel_state/model/expert_config.h"

#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) {
  const ExpertConfig config = read_expert_config(input_file(bytes, "experts.json"));
  config.num_experts();
  to_json(config);
}

std::vector<std::string> seeds() {
  return {to_json({.experts = {{1, {7, 3}}, {10, {0}}}, .shared_experts = true}),
          R"({"experts": {}, "shared_experts": false, "non_expert_modules": true})"};
}

}  // namespace

const FuzzTarget kExpertConfig{"expert_config", read, seeds};

}  // namespace sutor::fuzz
