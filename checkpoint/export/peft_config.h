// adapter_config.json of the peft library: what its low-rank pairs compute. What sutor does not
// compute is refused by name, known keys and unknown ones: the same tensors would mean something
// else.
#pragma once

#include <filesystem>
#include <set>
#include <string>

namespace sutor {

inline constexpr const char* kPeftConfigFile = "adapter_config.json";

struct PeftConfig {
  int rank = 0;
  double alpha = 0;  // a pair's product is multiplied by alpha / rank, also for use_rslora
};

// `modules`: those that have a pair, by their names in the model; rank_pattern and alpha_pattern
// must give all of them the same. Throws E0308 naming file and key.
PeftConfig read_peft_config(const std::filesystem::path& file,
                            const std::set<std::string>& modules);

}  // namespace sutor
