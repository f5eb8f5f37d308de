// A merged Hugging Face directory: the base with the trained values in place. Same shards, and
// every byte that was not trained is copied as it is; same index, tensor order, dtypes and metadata
// too, unless quantised matrices were to be dequantised.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/export_plan.h"
#include "checkpoint/export/requantize.h"
#include "checkpoint/export/trained_tensor.h"
#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

constexpr const char* kMergedInfoFile = "sutor_export.json";

// What rounding did to the trained tensors that the base has quantised.
struct RoundingReport {
  QuantizedRule rule = QuantizedRule::kDequantize;
  std::map<std::string, RoundingSums> tensors;
  // Re-quantised to the base's own bytes: nothing of the training is left of them.
  std::vector<std::string> unchanged;

  bool empty() const { return tensors.empty(); }
  RoundingSums total() const;
  std::string largest() const;  // name of the one with the largest relative error
  // Whether the error of all of them together exceeds what training changed.
  bool exceeds_update() const;
};

struct MergedExport {
  std::map<std::string, Digest> digests;  // of every changed tensor: its stored_digest()
  RoundingReport rounding;
};

// Writes and publishes `directory` (E0220 when it exists). Trained tensors are converted to the
// base's dtype (round to nearest even) and put where the base has them, a slice of a fused tensor,
// interleaved or transposed, too. What the base has quantised follows `rule`: kRequantize writes it
// in the same form with the same header; kDequantize writes it, and all routed experts of a layer
// in which one was trained, in the dtype of config.json under the name without "_blocks", without
// scales, and says so in config.json and the index. All other files of the base are copied, in
// subdirectories too, except `.git` and `.cache`; `sutor_export.json` (base digest, digests of what
// changed, rounding, provenance) is added. Weights in files that the model directory does not use
// (consolidated.safetensors, *.bin, *.gguf ...) are left out, since they would hold the untrained
// values. With no trained tensor everything is copied and nothing added: the directory then equals
// the base byte for byte. Up to four shards are written at once, a slice of a stored tensor (an
// expert) of each in memory. Throws E0307 for a base that is packed by four bits (INT4).
MergedExport export_merged(const ModelDirectory& base, const TensorMap& model,
                           std::vector<TrainedTensor> trained,
                           const std::filesystem::path& directory, const ExportOrigin& origin,
                           QuantizedRule rule = QuantizedRule::kDequantize);

struct VerifyReport {
  int64_t changed =
      0;  // trained tensors: as expected, and but for re-quantised ones not the base's
  int64_t identical = 0;  // stored tensors without any trained part: equal to the base, bit for bit
  int64_t dequantized =
      0;  // stored tensors in another dtype: but for trained parts the base's values
  int64_t other_files = 0;
};

// Reads both directories and compares every byte. `changed`: the digests that the trained tensors
// must have, by name; `rule`: that of the export. Throws E0101 naming the first tensor or file that
// is not as it has to be: one that was not trained but differs, one with another digest than
// expected, a header or another file that differs or is missing; E0102 for a trained tensor that
// equals the base (re-quantised ones may).
VerifyReport verify_merged(const ModelDirectory& base, const TensorMap& model,
                           const std::filesystem::path& merged,
                           const std::map<std::string, Digest>& changed,
                           QuantizedRule rule = QuantizedRule::kDequantize);

// The adapter holds exactly the tensors of `changed`, with these digests (E0101), each in the
// base's shape, and each different from the base (E0102); its base, where recorded, is this one
// (E0305).
VerifyReport verify_adapter(const ModelDirectory& base, const TensorMap& model,
                            const Adapter& adapter, const std::map<std::string, Digest>& changed);

}  // namespace sutor
