// How the stored tensors of a model fit the tensors that its config.json asks for: why some are
// missing, and whether any that are there would be passed over although they mean something. From
// names and headers alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

// Stored tensors that nothing is computed from, and rightly so.
struct IgnoredTensors {
  std::string what;     // "layers for multi-token prediction"
  std::string pattern;  // "model.layers.61.*"; a star for a number or for all that follows
  int64_t count = 0;
};

// Throws E0353 when a stored tensor that nothing reads belongs to a module that the model uses, or
// when a tensor of the model is stored twice. Returns the others that nothing reads: layers for
// multi-token prediction, towers for images and sound, rotary buffers, scales of activations, a
// head that is tied, and modules of other kinds of model.
std::vector<IgnoredTensors> check_unused_tensors(const ModelDirectory& directory,
                                                 const TensorMap& model);

// "3 tensors of layers for multi-token prediction (model.layers.4.*); 1 of ...".
std::string ignored_text(const std::vector<IgnoredTensors>& ignored);

// A sentence that names the prefix or the wrapper that stands in all names ("module.",
// "base_model.model.", "_orig_mod."), or lacks in them ("model."); empty when that is not why
// `missing` tensors are missing.
std::string misnamed_cause(const ModelDirectory& directory,
                           const std::vector<std::string>& missing);

}  // namespace sutor
