// How the scales of a quantised matrix lie over it, told by the headers of its tensors and by
// config.json. Errors: E0307 as in quantized_source.h.
#pragma once

#include <string>

#include "checkpoint/huggingface/resolved_source.h"
#include "checkpoint/quantized/quantization_config.h"
#include "checkpoint/quantized/quantized.h"

namespace sutor {

// "model.layers.3.mlp.up_proj" of a source with or without ".weight".
std::string module_name(const DiskSource& source);

// Throws unless the matrix has scales.
void require_scales(const ResolvedSource& found);

// Checks everything, and fills in all but values, zero points and the groups of columns. Not for
// MXFP4.
BlockScales scale_grid(const ResolvedSource& found, const TensorEntry& tensor,
                       const QuantizationConfig& config);

}  // namespace sutor
