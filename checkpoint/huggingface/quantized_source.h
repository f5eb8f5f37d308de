// Reads quantised matrices of a model: their scales, and slices of them as numbers.
// Errors: E0307 when scales, zero points or the order of columns are missing, do not fit, or are
// others than config.json says.
#pragma once

#include "checkpoint/huggingface/resolved_source.h"
#include "checkpoint/quantized/quantization_config.h"
#include "checkpoint/quantized/quantized.h"

namespace sutor {

// From headers alone.
void check_scales(const ResolvedSource& found, const TensorEntry& tensor,
                  const QuantizationConfig& config);

// All scales of a matrix that is not MXFP4, with what belongs to them.
BlockScales read_scales(const ResolvedSource& found, const TensorEntry& tensor,
                        const QuantizationConfig& config);

// Fills the destination's rows and columns, converted to its dtype; about 2 MiB and the scales of
// these rows are held, and no other scales are read.
void load_quantized(const ResolvedSource& found, const TensorEntry& tensor,
                    const QuantizationConfig& config, const ShardedTensor& destination);

}  // namespace sutor
