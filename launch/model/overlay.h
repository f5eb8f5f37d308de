// Trained values that replace those of a base model: of an adapter or of a checkpoint. Free of
// torch.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/peft_adapter.h"
#include "checkpoint/export/trained_tensor.h"
#include "csrc/base/hash.h"
#include "parallel_state/model/expert_config.h"
#include "parallel_state/model/model_info.h"

namespace sutor {

class Overlay {
 public:
  const std::string& name() const { return name_; }  // the folder, for messages
  const ExpertConfig& config() const { return config_; }
  // They share ownership of the files that they read from.
  const std::vector<TrainedTensor>& tensors() const { return tensors_; }
  // The low-rank pairs of a checkpoint that has them, else none.
  const std::vector<TrainedTensor>& pairs() const { return pairs_; }
  const PeftOptions& lora() const { return lora_; }
  // Whether it replaces the tensor of that name.
  bool has(std::string_view tensor) const { return by_name_.find(tensor) != by_name_.end(); }
  // Fills the rows and columns of `destination`, converted to its dtype; false when the overlay
  // does not have its tensor. Throws E0302 for another shape. Thread-safe.
  bool load(const ShardedTensor& destination) const;
  // Of names and values.
  Digest digest() const;

  // The computing_config() of its base, where it is recorded; else null.
  const nlohmann::json& base_config() const { return base_config_; }
  // The tokens that ended what was trained, where an adapter records them.
  std::set<int64_t> end_tokens() const;
  // Whether it is of an adapter or a checkpoint that records its base, but not the base's config.
  bool lacks_base_config() const;
  // Reads all of an adapter that records digests; throws E0347 when it is not as it was written.
  void check_content(int threads) const;

  // Throws E0305 when it records another base.
  void check_base(const Digest& base, const std::string& base_name) const;

  // An adapter, in sutor's or in the authors' form. Throws E0308 for a broken one, E0353 / E0302
  // for tensors that the model does not have.
  static Overlay of_adapter(const std::filesystem::path& path, const ModelDirectory& directory,
                            const ModelInfo& model);
  // A checkpoint of a training on the base with this digest (E0305). Low-rank pairs become the
  // adapted matrices, W + alpha / rank B A in fp32; load_base fills a slice of W.
  static Overlay of_checkpoint(const std::filesystem::path& path, const std::string& base_digest,
                               const std::function<void(ShardedTensor&)>& load_base);

 private:
  Overlay(std::string name, ExpertConfig config, std::vector<TrainedTensor> tensors);

  std::string name_;
  std::shared_ptr<const Adapter> adapter_;  // null for a checkpoint
  nlohmann::json base_config_;
  ExpertConfig config_;
  std::vector<TrainedTensor> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::vector<TrainedTensor> pairs_;
  PeftOptions lora_;
};

// Warns on stderr that an adapter or a checkpoint does not record the config.json of its base, so
// that a change of it would not show.
void warn_of_base_config(const std::string& trained);
// The same of an overlay that lacks_base_config().
void warn_of_base_config(const Overlay& overlay);

// All tensors of several overlays; of equal names the last one.
std::vector<TrainedTensor> merged_tensors(const std::vector<const Overlay*>& overlays);
// The experts and flags of any of them.
ExpertConfig merged_config(const std::vector<const Overlay*>& overlays);

}  // namespace sutor
