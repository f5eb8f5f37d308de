// The content of a merged export: for each tensor of each file, which bytes are the base's, and
// which are made anew and from what. The writer and the verifier share it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

// What becomes of trained matrices that the base has quantised, and of their layer.
enum class QuantizedRule {
  kDequantize,  // stored in the dtype of config.json, like all routed experts of their layer
  kRequantize,  // quantised again, in place
};
// "dequantize" or "requantize"; E0202 for another word.
QuantizedRule parse_quantized_rule(const std::string& text);

enum class SliceForm {
  kCopied,       // the base's bytes
  kElements,     // numbers in `dtype`
  kCodes,        // elements of one re-quantised FP8 or integer matrix
  kScales,       // the scales of such a matrix
  kZeroPoints,   // its zero points
  kMxfp4,        // a matrix of blocks, in which the rows of `tensors` are re-quantised
  kMxfp4Scales,  // the scales of such a matrix
};

// A model tensor in a slice: row r begins at byte origin + r * row_stride of the slice, and its
// element c lies c * col_stride bytes further (0 in packed forms, which have whole rows).
struct TensorInSlice {
  const TensorEntry* entry = nullptr;
  ResolvedSource base;  // where the base has it
  bool trained = false;
  int64_t origin = 0, row_stride = 0, col_stride = 0;
  bool again = false;  // the tensor is elsewhere, too: the head that is tied to the embedding
};

// A slice of a tensor of the export: consecutive bytes of it.
struct OutputSlice {
  SliceForm form = SliceForm::kCopied;
  int64_t begin = 0, end = 0;  // bytes of the tensor
  DType dtype = DType::kF32;   // of kElements
  // Whether bytes that belong to no tensor are the base's at the same offset; otherwise the tensors
  // fill the slice.
  bool over_base = true;
  std::vector<TensorInSlice> tensors;

  int64_t bytes() const { return end - begin; }
  // Whether it consists of one tensor's elements, in order.
  bool is_one_tensor() const;
};

struct OutputTensor {
  StoredTensor base;  // the base's tensor that it equals or replaces
  std::string name;   // that of the base, without "_blocks" or "_packed" where it was dequantised
  std::string dtype_name;
  std::vector<int64_t> shape;
  bool dequantized = false;
  std::vector<OutputSlice> slices;  // of all bytes, in order

  bool copied() const { return slices.size() == 1 && slices[0].form == SliceForm::kCopied; }
};

struct OutputShard {
  const ModelShard* base = nullptr;
  bool same_header = true;            // then tensors have the base's offsets
  std::vector<OutputTensor> tensors;  // in the order of their bytes
};

struct ExportPlan {
  QuantizedRule rule = QuantizedRule::kDequantize;
  std::vector<OutputShard> shards;  // in the base's order
  // Modules that are quantised in the base and plain in the export, by their names in transformers:
  // "model.layers.3.mlp.experts", "model.layers.3.self_attn.o_proj".
  std::set<std::string> dequantized_modules;
  bool still_quantized = false;             // whether some tensor of the export has scales
  std::set<std::string> trained_quantized;  // names of trained tensors that the base has quantised

  bool new_headers() const { return !dequantized_modules.empty(); }
};

// `trained`: names. Throws E0301 for a tensor that the model or the base does not have.
ExportPlan plan_export(const ModelDirectory& base, const TensorMap& model,
                       const std::vector<std::string>& trained, QuantizedRule rule);

}  // namespace sutor
