// Reads quantised matrices of a model: their scales, and slices of them as numbers.
// Errors: E0307 when the scales are missing or do not fit.
#pragma once

#include <nlohmann/json.hpp>

#include "checkpoint/huggingface/quantized.h"
#include "checkpoint/huggingface/resolved_source.h"

namespace sutor {

// From headers alone. `config`: config.json, which says the block size of FP8.
void check_scales(const ResolvedSource& found, const TensorEntry& tensor,
                  const nlohmann::json& config);

// All scales of an FP8 or INT4 matrix.
BlockScales read_scales(const ResolvedSource& found, const TensorEntry& tensor,
                        const nlohmann::json& config);

// Fills the destination's rows and columns, converted to its dtype; about 2 MiB and the scales of
// these rows are held, and no other scales are read.
void load_quantized(const ResolvedSource& found, const TensorEntry& tensor,
                    const nlohmann::json& config, const ShardedTensor& destination);

}  // namespace sutor
