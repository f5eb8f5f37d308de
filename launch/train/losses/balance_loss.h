// Of what the load-balance loss of a training is a mean, and what that takes before a step.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "launch/data/micro_batch.h"
#include "layers/decoder/causal_model.h"
#include "recipes/recipe.h"

namespace sutor {

// train.balance_over; auto: what the model's config.json says by `seq_aux` (DeepSeek-V2, -V3 and
// Kimi-K2 without it: sequences, the default of their configuration classes), else the global
// batch.
BalanceOver balance_over(const Recipe& recipe, const nlohmann::json& model_config);
// "0.01 x the mean over sequences (seq_aux of config.json)", for the start of a training.
std::string balance_text(const Recipe& recipe, const nlohmann::json& model_config);

// How many assignments every expert gets in a global batch, int64 [layers, E] on the model's
// device, by a forward pass without autograd of this rank's micro-batches. Collective over the
// world, with as many micro-batches on every rank.
at::Tensor count_assignments(const CausalModel& model, const ModelInfo& info,
                             std::span<const MicroBatch> micro_batches);

}  // namespace sutor
