// A merged Hugging Face directory: the base with the trained values in place. It has the same
// shards, and every byte that was not trained is copied; index, tensor order, dtypes and metadata
// are the same too, unless quantised matrices are dequantised.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/export_plan.h"
#include "checkpoint/export/requantize.h"
#include "checkpoint/export/trained_tensor.h"
#include "checkpoint/files/recorded_files.h"
#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

// The rounding errors of the trained tensors that the base has quantised.
struct RoundingReport {
  QuantizedRule rule = QuantizedRule::kDequantize;
  std::map<std::string, RoundingSums> tensors;
  // Tensors that were re-quantised to the base's own bytes, so that their training is lost.
  std::vector<std::string> unchanged;

  bool empty() const { return tensors.empty(); }
  RoundingSums total() const;
  std::string largest() const;  // name of the tensor with the largest relative error
  // Whether the total error exceeds what training changed.
  bool exceeds_update() const;
};

struct MergedExport {
  std::map<std::string, Digest> digests;  // of every changed tensor: its stored_digest()
  RoundingReport rounding;
  std::vector<std::string> left_out;  // files of the base that are not copied: see copied_files.h
};

// Writes and publishes `directory` (E0220 when it exists). Trained tensors are converted to the
// base's dtype (round to nearest even) and stored where the base has them, also as a slice of a
// fused tensor, interleaved or transposed. Tensors that the base has quantised follow `rule`:
// kRequantize writes them in the same form with the same header; kDequantize writes them, and all
// routed experts of a layer in which one was trained, in the dtype of config.json, under the name
// without "_blocks" or "_packed" and without scales, and changes config.json and the index
// accordingly. All other files of the base are copied, in subdirectories too, except `.git` and
// `.cache`, but generation_config.json stops at the end tokens of `origin`, too;
// `sutor_export.json` (base digest, digests of what changed and of every file, rounding,
// provenance) is added.
// Other copies of the weights are left out, see copied_files.h. With no trained tensor everything
// is copied and nothing added: the directory then equals the base byte for byte. Up to four shards
// are written at once, each with a slice of a stored tensor (an expert) in memory.
MergedExport export_merged(const ModelDirectory& base, const TensorMap& model,
                           std::vector<TrainedTensor> trained,
                           const std::filesystem::path& directory, const ExportOrigin& origin,
                           QuantizedRule rule = QuantizedRule::kDequantize);

// What sutor_export.json of an export says.
struct MergedInfo {
  std::map<std::string, Digest> tensors;  // of every changed tensor
  std::set<int64_t> end_tokens;           // ExportOrigin::end_tokens
};
// Nothing when the directory has none. Throws E0303 or E0342 for a broken one, E0343 for another
// version.
std::optional<MergedInfo> read_merged_info(const std::filesystem::path& directory);

struct VerifyReport {
  int64_t changed = 0;      // trained tensors: as expected and, unless re-quantised, not the base's
  int64_t identical = 0;    // stored tensors without trained slices: equal to the base bit for bit
  int64_t dequantized = 0;  // stored tensors in another dtype: untrained slices have base values
  int64_t other_files = 0;
};

// Reads both directories and compares every byte. `changed`: the digests that the trained tensors
// must have, by name; `rule`: that of the export. Throws E0101 naming the first tensor or file that
// is wrong: a tensor that was not trained but differs, or that has another digest than expected, or
// a header or another file that differs or is missing; E0102 for a trained tensor that equals the
// base (re-quantised ones may).
VerifyReport verify_merged(const ModelDirectory& base, const TensorMap& model,
                           const std::filesystem::path& merged,
                           const std::map<std::string, Digest>& changed,
                           QuantizedRule rule = QuantizedRule::kDequantize);

// Checks that the adapter has exactly the tensors of `changed`, with these digests (E0101), each in
// the base's shape and different from the base (E0102), and that its base, where recorded, is this
// one (E0305).
VerifyReport verify_adapter(const ModelDirectory& base, const TensorMap& model,
                            const Adapter& adapter, const std::map<std::string, Digest>& changed);

}  // namespace sutor
