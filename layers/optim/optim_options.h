// The recipe's `optim:` section.
#pragma once

#include <string>
#include <string_view>

namespace sutor {

struct OptimOptions {
  std::string name = "adamw";
  double lr = 1e-5;
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  std::string decay = "all";  // all | matrices (tensors of two or more axes)
  double clip = 1.0;          // 0 = no clipping
};

// What `optim.name` may be; optimizer.cc makes them.
struct OptimizerName {
  std::string_view name;
  std::string_view model_dtype = "";  // that it needs; empty: any
};
inline constexpr OptimizerName kOptimizerNames[] = {{"adamw"}, {"adamw_bf16", "bf16"}};

}  // namespace sutor
