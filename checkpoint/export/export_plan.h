// What a merged export consists of: of each tensor of each of its files, which bytes are the base's
// and which are made anew, from what. Shared by its writer and its verifier.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

// What becomes of trained matrices that the base holds quantised, and of their layer.
enum class QuantizedRule {
  kDequantize,  // stored in the dtype of config.json, with all routed experts of their layer
  kRequantize,  // quantised again, in place
};
// "dequantize" or "requantize"; E0202 for another word.
QuantizedRule parse_quantized_rule(const std::string& text);

enum class SliceForm {
  kCopied,       // the base's bytes
  kElements,     // numbers in `dtype`
  kFp8,          // E4M3 elements of one re-quantised matrix
  kFp8Scales,    // its scales
  kMxfp4,        // a matrix of blocks, in which the rows of `tensors` are re-quantised
  kMxfp4Scales,  // the scales of such a matrix
};

// A model tensor in a piece: row r begins at byte origin + r * row_stride, its element c another
// c * col_stride further on (0 in packed forms, which take whole rows).
struct TensorInSlice {
  const TensorEntry* entry = nullptr;
  ResolvedSource base;  // where the base has it
  bool trained = false;
  int64_t origin = 0, row_stride = 0, col_stride = 0;
};

// Consecutive bytes of a tensor in the export.
struct OutputSlice {
  SliceForm form = SliceForm::kCopied;
  int64_t begin = 0, end = 0;  // of the tensor's
  DType dtype = DType::kF32;   // of kElements
  // Whether the base's bytes of the same place stand where no tensor is: else the tensors fill it.
  bool over_base = true;
  std::vector<TensorInSlice> tensors;

  int64_t bytes() const { return end - begin; }
  // One tensor's elements, in their order, and nothing else.
  bool is_one_tensor() const;
};

struct OutputTensor {
  StoredTensor base;  // the stored tensor that it is, or whose place it takes
  std::string name;   // the base's, without "_blocks" where it was dequantised
  std::string dtype_name;
  std::vector<int64_t> shape;
  bool dequantized = false;
  std::vector<OutputSlice> slices;  // all bytes, in their order

  bool copied() const { return slices.size() == 1 && slices[0].form == SliceForm::kCopied; }
};

struct OutputShard {
  const ModelShard* base = nullptr;
  bool same_header = true;            // then tensors lie where the base's lie
  std::vector<OutputTensor> tensors;  // in the order of their bytes
};

struct ExportPlan {
  QuantizedRule rule = QuantizedRule::kDequantize;
  std::vector<OutputShard> shards;  // as the base's
  // Names of modules that are plain in the export and quantised in the base, as transformers calls
  // them: "model.layers.3.mlp.experts", "model.layers.3.self_attn.o_proj".
  std::set<std::string> dequantized_modules;
  bool still_quantized = false;             // some tensor of the export has scales
  std::set<std::string> trained_quantized;  // names of trained tensors that the base has quantised

  bool new_headers() const { return !dequantized_modules.empty(); }
};

// `trained`: names. Throws E0314 for one that the model or the base does not have, E0307 for one
// that the base holds packed by four bits (INT4).
ExportPlan plan_export(const ModelDirectory& base, const TensorMap& model,
                       const std::vector<std::string>& trained, QuantizedRule rule);

// Every file of the base but its shards, relative to files_root(), that an export copies.
// `anything_trained`: weights that the model directory does not use, and an older
// sutor_export.json, stay behind; with `new_headers` config.json and the index as well.
std::set<std::filesystem::path> copied_files(const ModelDirectory& base, bool anything_trained,
                                             bool new_headers);

}  // namespace sutor
