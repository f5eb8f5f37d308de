// Rotary embedding settings as config.json states them. Free of torch.
#pragma once

#include <optional>
#include <string>

namespace sutor {

struct RopeConfig {
  std::string type = "default";  // default | yarn
  double theta = 10000;
  double factor = 1;
  double beta_fast = 32, beta_slow = 1;
  double mscale = 0, mscale_all_dim = 0;
  std::optional<double> attention_factor;
  double original_max_positions = 0;
  bool truncate = true;
  double partial = 1;  // the fraction of a head, from its first dimension on, that is rotated

  // The factor of cos and sin.
  double cos_sin_factor() const;
  // 0.1 m ln(s) + 1 for s > 1, else 1.
  static double mscale_of(double scale, double m);
};

}  // namespace sutor
