#include "launch/train/model_flops.h"

#include <cstdlib>
#include <string_view>

namespace sutor {
namespace {

// Dense bf16, in 10^12 operations a second, as their makers state it. The first name that
// the device's name holds counts.
struct KnownPeak {
  std::string_view name;
  double tflops;
};
constexpr KnownPeak kPeaks[] = {
    {"H200", 989.4}, {"GH200", 989.4}, {"H100 PCIe", 756.5}, {"H100 NVL", 835.5}, {"H100", 989.4},
    {"A100", 312},   {"B200", 2250},   {"L40S", 362.1},      {"A40", 149.7},      {"A10", 125},
};

bool is_above(const TensorEntry& tensor, const TrainableSet& trainable) {
  return tensor.layer > trainable.lowest_layer() || tensor.role == TensorRole::kHead;
}

}  // namespace

double training_flops_per_token(const ModelInfo& model, const TrainableSet& trainable) {
  double flops = 0;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    double weights = 1;
    for (const int64_t size : tensor.shape) weights *= static_cast<double>(size);
    bool above = is_above(tensor, trainable);
    switch (tensor.role) {
      case TensorRole::kNorm:
      case TensorRole::kCorrectionBias:
        continue;
      case TensorRole::kEmbedding:
        if (!model.tied_head) continue;  // a row is looked up
        above = true;
        break;
      case TensorRole::kRoutedExpert:
        weights *= static_cast<double>(model.top_k) / model.num_experts;
        break;
      default:
        break;
    }
    flops += 2 * weights * (1 + (above ? 1 : 0) + (trainable.contains(tensor.name) ? 1 : 0));
  }
  return flops;
}

std::optional<double> peak_flops(const std::string& device_text, const std::string& dtype) {
  constexpr double kTera = 1e12;
  if (const char* given = std::getenv("SUTOR_PEAK_TFLOPS")) {
    const double tflops = std::atof(given);
    if (tflops > 0) return tflops * kTera;
  }
  if (dtype != "bf16" || !device_text.starts_with("cuda")) return std::nullopt;
  for (const KnownPeak& peak : kPeaks) {
    if (device_text.find(peak.name) != std::string::npos) return peak.tflops * kTera;
  }
  return std::nullopt;
}

}  // namespace sutor
