// scores.h5, the authors' text records, and summary.json.
#include "layers/esft/score_records.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hdf5/h5.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr char kFormat[] = "sutor-scores-1";
constexpr int kMaxExperts = 1 << 16;

std::optional<int> parse_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::string layer_group(int layer) { return fmt::format("/layers/{}", layer); }

}  // namespace

double round4(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4f", value);  // correctly rounded from the exact value
  return std::strtod(text, nullptr);
}

std::string format4(double value) {
  std::string text = fmt::format("{:.4f}", value);
  while (text.back() == '0' && text[text.size() - 2] != '.') text.pop_back();
  return text;
}

namespace {

// prefix: "" or "first_half_"
void write_layer(h5::File& file, const ExpertScores& scores, int layer, const std::string& prefix) {
  const std::string group = layer_group(layer);
  file.write(fmt::format("{}/{}counts", group, prefix), "I64", {scores.num_experts()},
             std::as_bytes(scores.counts(layer)));
  file.write(fmt::format("{}/{}gate_sums", group, prefix), "I64", {scores.num_experts()},
             std::as_bytes(scores.gate_sums(layer)));
  file.set_int(group, prefix + "tokens", scores.num_tokens(layer));
}

}  // namespace

void write_scores(const ExpertScores& scores, const ScoreOrigin& origin, const fs::path& path,
                  const std::optional<ExpertScores>& first_half) {
  h5::write_file(path, [&](h5::File& file) {
    file.set_text("/", "format", kFormat);
    file.set_int("/", "top_k", scores.top_k());
    file.set_int("/", "num_experts", scores.num_experts());
    file.set_int("/", "tokens", scores.num_tokens());
    file.set_int("/", "gate_fraction_bits", ExpertScores::kGateFractionBits);
    file.set_text("/", "family", origin.family);
    file.set_text("/", "base_digest", origin.base_digest);
    file.set_text("/", "data_digest", origin.data_digest);
    file.set_text("/", "version", origin.version);
    if (!origin.made_from.empty()) file.set_text("/", "made_from", origin.made_from);
    for (int layer : scores.layers()) {
      write_layer(file, scores, layer, "");
      if (first_half) write_layer(file, *first_half, layer, "first_half_");
    }
  });
}

namespace {

void read_layer(const h5::File& file, int layer, const std::string& prefix, ExpertScores& scores) {
  const std::string group = layer_group(layer);
  const auto counts = file.read<int64_t>(fmt::format("{}/{}counts", group, prefix));
  const auto gate_sums = file.read<int64_t>(fmt::format("{}/{}gate_sums", group, prefix));
  const int64_t tokens = file.get_int(group, prefix + "tokens");
  const auto experts = static_cast<size_t>(scores.num_experts());
  if (counts.size() != experts || gate_sums.size() != experts) {
    file.fail_read(fmt::format("{} has {} counts and {} gate sums, expected {} experts", group,
                               counts.size(), gate_sums.size(), experts));
  }
  const auto in_range = [&](int64_t value, int64_t most) { return value >= 0 && value <= most; };
  const int64_t unit = int64_t{1} << ExpertScores::kGateFractionBits;
  bool plausible = in_range(tokens, (int64_t{1} << 62) / unit);
  int64_t selections = 0;
  for (size_t e = 0; plausible && e < experts; ++e) {
    plausible = in_range(counts[e], tokens) && in_range(gate_sums[e], 2 * tokens * unit);
    selections += counts[e];
  }
  if (!plausible || selections != tokens * scores.top_k()) {
    file.fail_read(fmt::format("{}: the counts do not add up to {} tokens x top-{}", group, tokens,
                               scores.top_k()));
  }
  scores.set_layer(layer, counts, gate_sums, tokens);
}

// A part has at most what the whole has, number by number.
void check_half(const h5::File& file, const ExpertScores& half, const ExpertScores& whole) {
  for (size_t i = 0; i < half.flat().size(); ++i) {
    if (half.flat()[i] <= whole.flat()[i]) continue;
    file.fail_read("the first half of the sample has more than the whole sample");
  }
}

}  // namespace

StoredScores read_scores(const fs::path& path) {
  const h5::File file = h5::File::open(path, ErrorCode::kNotScores, ErrorCode::kNotScores);
  if (!file.has_attribute("/", "format") || file.get_text("/", "format") != kFormat) {
    file.fail_read(
        fmt::format("this is no score file: the attribute `format` is not `{}`", kFormat));
  }
  const int64_t experts = file.get_int("/", "num_experts");
  const int64_t top_k = file.get_int("/", "top_k");
  const int64_t bits = file.get_int("/", "gate_fraction_bits");
  if (experts < 1 || experts > kMaxExperts || top_k < 1 || top_k > experts ||
      bits != ExpertScores::kGateFractionBits) {
    file.fail_read(fmt::format("top-{} of {} experts with {} fraction bits makes no sense", top_k,
                               experts, bits));
  }
  std::vector<int> layers;
  for (const std::string& name : file.children("/layers")) {
    const std::optional<int> layer = parse_number(name);
    if (!layer) file.fail_read(fmt::format("/layers/{} is no layer number", name));
    layers.push_back(*layer);
  }
  std::sort(layers.begin(), layers.end());
  StoredScores result;
  result.scores = ExpertScores(layers, static_cast<int>(experts), static_cast<int>(top_k));
  for (int layer : layers) read_layer(file, layer, "", result.scores);
  if (!layers.empty() && file.has_attribute(layer_group(layers.front()), "first_half_tokens")) {
    result.first_half = ExpertScores(layers, static_cast<int>(experts), static_cast<int>(top_k));
    for (int layer : layers) read_layer(file, layer, "first_half_", *result.first_half);
    check_half(file, *result.first_half, result.scores);
  }
  result.origin = {
      .family = file.get_text("/", "family"),
      .base_digest = file.get_text("/", "base_digest"),
      .data_digest = file.get_text("/", "data_digest"),
      .version = file.get_text("/", "version"),
      .made_from = file.has_attribute("/", "made_from") ? file.get_text("/", "made_from") : ""};
  return result;
}

void check_record_folder(const fs::path& folder) {
  if (!is_there(folder)) return;
  if (!is_folder(folder)) {
    fail(ErrorCode::kOutputExists, "{} is no folder, so records cannot be written there",
         folder.string());
  }
  for (const fs::path& entry : entries_of(folder)) {
    const std::string name = entry.filename().string();
    if (name.starts_with("expert_weights_") || name == "summary.json") require_plain_file(entry);
  }
}

RecordWriter::RecordWriter(const fs::path& folder, const std::vector<int>& layers)
    : folder_(folder) {
  check_record_folder(folder);
  make_directory(folder);
  for (int layer : layers) {
    const fs::path path = folder / fmt::format("expert_weights_{}.txt", layer);
    files_[layer].open(path, std::ios::binary | std::ios::trunc);
    if (!files_[layer]) {
      fail(ErrorCode::kWriteFailed, "{}: cannot create this record file.", path.string());
    }
  }
}

void RecordWriter::add(int layer, std::span<const int64_t> topk_idx,
                       std::span<const float> topk_weights) {
  SUTOR_ASSERT(files_.count(layer) > 0 && topk_idx.size() == topk_weights.size());
  std::string line;
  for (int64_t id : topk_idx) {
    if (!line.empty()) line += '\t';
    line += std::to_string(id);
  }
  line += "\t";
  for (float weight : topk_weights) {
    line += '\t';
    line += format4(weight);
  }
  line += '\n';
  files_[layer].write(line.data(), static_cast<std::streamsize>(line.size()));
}

void RecordWriter::close() {
  for (auto& [layer, file] : files_) {
    file.close();
    if (!file) {
      fail(ErrorCode::kWriteFailed,
           "{}/expert_weights_{}.txt: the records could not be written. Is the disk full?",
           folder_.string(), layer);
    }
  }
}

std::string summary_json(const ScoreTable& table) {
  const auto part = [](const std::map<int, std::vector<double>>& scores) {
    std::map<std::string, std::string> layers;  // in string order, as the authors list their files
    for (const auto& [layer, values] : scores) {
      std::vector<std::string> experts;
      for (size_t e = 0; e < values.size(); ++e) {
        experts.push_back(fmt::format("\"{}\": {}", e, format4(values[e])));
      }
      layers[std::to_string(layer)] = fmt::format("{}", fmt::join(experts, ", "));
    }
    std::vector<std::string> parts;
    for (const auto& [layer, experts] : layers) {
      parts.push_back(fmt::format("\"{}\": {{{}}}", layer, experts));
    }
    return fmt::format("{}", fmt::join(parts, ", "));
  };
  return fmt::format("{{\"token_scores\": {{{}}}, \"gate_scores\": {{{}}}}}", part(table.token),
                     part(table.gate));
}

void write_summary(const ScoreTable& table, const fs::path& path) {
  write_file_atomic(path, summary_json(table));
}

}  // namespace sutor
