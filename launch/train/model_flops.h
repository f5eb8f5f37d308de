// How much of a device's arithmetic a training uses: "model FLOPs utilisation", MFU.
#pragma once

#include <optional>
#include <string>

#include "layers/esft/trainable_params.h"
#include "parallel_state/model/model_info.h"

namespace sutor {

// Operations that a token needs in a training step by the formula
//   2 x (weights it goes through)                                  forward
// + 2 x (those of them in layers above the lowest trained one)     backward, to the inputs
// + 2 x (those of them that train)                                 backward, to the weights
// where of a layer's routed experts a token goes through top_k, all of them equally often. Without
// scores of attention, norms and what is recomputed: it is what the model needs, not what is done.
double training_flops_per_token(const ModelInfo& model, const TrainableSet& trainable);

// The most operations a second of one rank's device: SUTOR_PEAK_TFLOPS, else what is known of a GPU
// by its name for bf16 without sparsity. Nothing for other devices, or for another dtype.
// device_text: as ChosenDevice has it; dtype: "bf16", of the recipe.
std::optional<double> peak_flops(const std::string& device_text, const std::string& dtype);

}  // namespace sutor
