// Low-rank adapters in the form of the peft library: adapter_config.json and
// adapter_model.safetensors, whose tensors are named `base_model.model.<module>.lora_A.weight`.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/export/peft_config.h"
#include "checkpoint/export/trained_tensor.h"
#include "checkpoint/files/recorded_files.h"
#include "checkpoint/huggingface/model_shard.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

inline constexpr const char* kPeftWeightsFile = "adapter_model.safetensors";
// Sizes and digests of the other two; the peft library passes it over.
inline constexpr const char* kPeftInfoFile = "sutor_peft.json";

struct PeftOptions {
  int rank = 8;
  double alpha = 16;
  std::string base;  // base_model_name_or_path
};

// `pairs`: lora_A and lora_B tensors under global names. Writes into a new directory, which the
// caller publishes (csrc/base/owner/staged_directory.h).
void write_peft_adapter(const std::filesystem::path& directory,
                        const std::vector<TrainedTensor>& pairs, const PeftOptions& options);

class PeftAdapter {
 public:
  // Checks every byte of both files where they are recorded (E0342, E0344, E0347), otherwise opens
  // headers only. Throws E0308 for a folder that is not a LoRA adapter or asks for what sutor does
  // not compute (read_peft_config), E0353 for tensors that are not of a low-rank pair.
  explicit PeftAdapter(const std::filesystem::path& path);

  int rank() const { return config_.rank; }
  double alpha() const { return config_.alpha; }
  // Throws E0353 for pairs that the model, with those of lora.targets, does not have: they would be
  // lost.
  void check_pairs(const TensorMap& model) const;
  // Fills a slice of a pair's tensor, by global name. Throws E0308 when there is no such tensor,
  // E0302 for another shape.
  void load(const ShardedTensor& destination) const;
  size_t num_tensors() const { return tensors_.size(); }

  // As sutor_peft.json lists them; empty where there is none.
  static std::vector<RecordedFile> recorded_files(const std::filesystem::path& path);

 private:
  std::filesystem::path path_;
  std::unique_ptr<SafetensorsShard> file_;
  std::map<std::string, const SafetensorsEntry*> tensors_;  // by global name
  PeftConfig config_;
};

}  // namespace sutor
