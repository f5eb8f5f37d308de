// Streams a model tensor's bytes in their stored form and in the order of its own rows, whatever
// their layout on disk: the bytes of which its digest is taken.
#pragma once

#include <functional>
#include <span>

#include "checkpoint/format/strided_ranges.h"
#include "checkpoint/huggingface/model_directory.h"
#include "csrc/base/hash.h"

namespace sutor {

// Gives the tensor's values in `dtype`, row after row, to `sink`, through a read buffer of at most
// `bytes_at_once` or one row. A transposed tensor is read as a whole for each buffer, so the buffer
// should be large.
inline constexpr int64_t kReadBufferBytes = int64_t{32} << 20;
void stream_values(const ModelDirectory& directory, const TensorEntry& tensor, DType dtype,
                   const ByteSink& sink, int64_t bytes_at_once = kReadBufferBytes);

// Plain: the values in the stored dtype. FP8 and integers: the stored matrix, then its scales, then
// its zero points. MXFP4: the blocks of the tensor's rows, then the scales of its rows. `found`:
// the source of `tensor`, as resolve() gives it.
void stream_stored(const ModelDirectory& directory, const TensorEntry& tensor,
                   const ResolvedSource& found, const ByteSink& sink);
Digest stored_digest(const ModelDirectory& directory, const TensorEntry& tensor,
                     const ResolvedSource& found);

}  // namespace sutor
