// A model tensor's bytes in its stored form, in the order of its own rows, however they lie on
// disk: what its digest is of.
#pragma once

#include <functional>
#include <span>

#include "checkpoint/format/strided_ranges.h"
#include "checkpoint/huggingface/model_directory.h"
#include "csrc/base/hash.h"

namespace sutor {

// Gives the tensor's values in `dtype`, row after row, to `sink`; at most `bytes_at_once` or one
// row are held. A transposed one is read as a whole for each of these, so they had best be large.
inline constexpr int64_t kReadBufferBytes = int64_t{32} << 20;
void stream_values(const ModelDirectory& directory, const TensorEntry& tensor, DType dtype,
                   const ByteSink& sink, int64_t bytes_at_once = kReadBufferBytes);

// Plain: the values in the stored dtype. FP8 and INT4: the stored matrix, then its scales. MXFP4:
// the blocks of the tensor's rows, then the scales of its rows. `found`: what `tensor` resolves to.
void stream_stored(const ModelDirectory& directory, const TensorEntry& tensor,
                   const ResolvedSource& found, const ByteSink& sink);
Digest stored_digest(const ModelDirectory& directory, const TensorEntry& tensor,
                     const ResolvedSource& found);

}  // namespace sutor
