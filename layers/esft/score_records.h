// Score files: sutor's scores.h5, the authors' text records and their summary.json.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "layers/esft/expert_scores.h"

namespace sutor {

struct ScoreOrigin {
  std::string family;       // model_type
  std::string base_digest;  // of the model that was scored
  std::string data_digest;  // of the sample
  std::string version;      // of sutor
  std::string made_from{};  // JSON object: keys and digests of inputs; empty in older files
};

// scores.h5: /layers/<global layer>/{counts,gate_sums} int64 [E] and the layer's attribute
// `tokens`; of the first half of the sample, where it is known, likewise first_half_counts,
// first_half_gate_sums and `first_half_tokens`; root attributes format, top_k, num_experts, tokens,
// gate_fraction_bits, family, base_digest, data_digest, version, made_from. Written under a
// temporary name and renamed.
void write_scores(const ExpertScores& scores, const ScoreOrigin& origin,
                  const std::filesystem::path& path,
                  const std::optional<ExpertScores>& first_half = {});
struct StoredScores {
  ExpertScores scores;
  ScoreOrigin origin;
  std::optional<ExpertScores> first_half = {};  // absent in older files
};
// Throws E0325 with file and reason.
StoredScores read_scores(const std::filesystem::path& path);

// Throws E0220 when something else than a plain file stands in the folder where records or their
// summary would be written, or something else than a folder in its place.
void check_record_folder(const std::filesystem::path& folder);

// The authors' records: expert_weights_<layer>.txt, one line per forward pass: all top-k ids of its
// tokens separated by TABs, two TABs, then the weights in the same order, rounded to 4 decimals.
class RecordWriter {
 public:
  // Creates the folder and truncates the files of `layers` (global numbers).
  RecordWriter(const std::filesystem::path& folder, const std::vector<int>& layers);
  // One forward pass at one layer; topk_idx and topk_weights are [T, K], row-major.
  void add(int layer, std::span<const int64_t> topk_idx, std::span<const float> topk_weights);
  // Flushes; throws E0502 when the disk did not take everything.
  void close();

 private:
  std::filesystem::path folder_;
  std::map<int, std::ofstream> files_;
};

// summary.json as the authors write it: scores rounded to 4 decimals, layers in string order.
std::string summary_json(const ScoreTable& table);
void write_summary(const ScoreTable& table, const std::filesystem::path& path);

// What the records do not state of the model; 0 = inferred: num_experts as the highest id + 1 over
// all layers, top_k as the length of the longest runs that divide every line without repeating an
// expert, weight_scale (routed_scaling_factor) as the sum of the weights of a token, where that is
// the same for all.
struct RecordShape {
  int num_experts = 0;
  int top_k = 0;
  double weight_scale = 0;
};
// A folder of expert_weights_<layer>.txt files, or of rank_*/ folders of such, which are summed.
// Throws E0326 with file and line. The gate sums are 0 when the weights are scaled by nobody knows
// what; read_record_table then says so (ScoreTable::no_gate).
ExpertScores read_records(const std::filesystem::path& folder, const RecordShape& shape = {});
ScoreTable read_record_table(const std::filesystem::path& folder, const RecordShape& shape = {});
// Whether a folder has such files or rank_*/ folders.
bool holds_records(const std::filesystem::path& folder);

// The scores of the first and of the second half of each layer's tokens in the same records: to
// choose by one half and evaluate on the other.
std::pair<ExpertScores, ExpertScores> read_record_halves(const std::filesystem::path& folder,
                                                         const RecordShape& shape = {});

// summary.json. Token scores of a layer must add up to 1: layers that do not are divided by their
// sum where that alone was forgotten, and replaced by the records beside the file or refused
// (E0326) where the script divided along the wrong axis. Of `model` only weight_scale and top_k
// count.
ScoreTable read_summary(const std::filesystem::path& path, const RecordShape& model = {});

// Any form: scores.h5, summary.json, a folder of records, or a folder that contains rank_*/
// records, scores.h5 or summary.json (looked for in this order). Layer keys stay as they are;
// layers of only zeros (dense ones, in files that list all layers) are left out. Throws E0327 when
// no other is left.
ScoreTable read_score_table(const std::filesystem::path& path, const RecordShape& shape = {});

// What is to be said of a table that was read from `name`, a line each: W0303 of the kind of score
// that is used, W0304, notes.
std::vector<std::string> remarks_on(const ScoreTable& table, bool gate, const std::string& name);

// Python's round(value, 4): to the nearest of the exact binary value, ties to even.
double round4(double value);
// Python's repr of round(value, 4): "0.047", "1.0".
std::string format4(double value);

}  // namespace sutor
