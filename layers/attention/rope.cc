#include "layers/attention/rope.h"

#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "csrc/ops/device/host_window.h"
#include "csrc/ops/rotary.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

class RotateFunction : public torch::autograd::Function<RotateFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin, int64_t offset, bool interleaved) {
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["offset"] = offset;
    ctx->saved_data["interleaved"] = interleaved;
    return ops::rotated(x, cos, sin, offset, interleaved, /*back=*/false);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    return {
        ops::rotated(grads[0].contiguous(), saved[0], saved[1], ctx->saved_data["offset"].toInt(),
                     ctx->saved_data["interleaved"].toBool(), /*back=*/true),
        at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

Rope::Rope(const RopeConfig& config, int64_t width, RopeStyle style)
    : width_(width), style_(style), factor_(config.cos_sin_factor()) {
  std::vector<float> inverse(width / 2);
  const double d = static_cast<double>(width);
  // The dimension at which a full turn happens `turns` times within the original context.
  const auto correction = [&](double turns) {
    return d * std::log(config.original_max_positions / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(config.theta));
  };
  double low = 0, high = 0;
  if (config.type == "yarn") {
    low = correction(config.beta_fast);
    high = correction(config.beta_slow);
    if (config.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, d - 1);
    if (low == high) high += 0.001;
  }
  for (int64_t i = 0; i < width / 2; ++i) {
    // In fp32 where the reference is: positions times these must give the same angles.
    const float power =
        std::pow(static_cast<float>(config.theta), static_cast<float>(2 * i) / width);
    const float plain = 1.0f / power;
    inverse[i] = plain;
    if (config.type == "yarn") {
      const float interpolated = 1.0f / (static_cast<float>(config.factor) * power);
      const float ramp = std::clamp(
          (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f,
          1.0f);
      const float extrapolation = 1.0f - ramp;
      inverse[i] = interpolated * (1.0f - extrapolation) + plain * extrapolation;
    }
  }
  inverse_frequencies_ = at::tensor(inverse, at::kFloat);
}

void Rope::move_to(at::Device device) {
  inverse_frequencies_ = ops::to_device(inverse_frequencies_, device);
}

Rope::Tables Rope::tables(const PackedBatch& batch) const {
  const at::Tensor angles =
      batch.positions.to(at::kFloat).unsqueeze(1) * inverse_frequencies_.unsqueeze(0);
  return {(angles.cos() * factor_).contiguous(), (angles.sin() * factor_).contiguous()};
}

at::Tensor Rope::apply(const at::Tensor& x, const Tables& tables, int64_t offset) const {
  return RotateFunction::apply(x.contiguous(), tables.cos, tables.sin, offset,
                               style_ == RopeStyle::kInterleaved);
}

}  // namespace sutor
