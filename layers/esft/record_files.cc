// The files of the authors' text records, and those of ports of their script.
#include "layers/esft/record_files.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxExperts = 1 << 16;
constexpr int64_t kMaxRecordBytes = int64_t{8} << 30;
constexpr std::string_view kRecordPrefix = "expert_weights_";

template <typename T>
void parse_fields(std::string_view text, std::vector<T>& values, const std::string& where) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    T value{};
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || (next != end && *next != '\t')) {
      fail(ErrorCode::kBadScoreRecords, "{}: expected numbers separated by TABs, found `{}`.",
           where, std::string_view(at, std::min<size_t>(20, static_cast<size_t>(end - at))));
    }
    values.push_back(value);
    if (next == end) return;
    at = next + 1;
  }
}

RecordedPass parse_line(std::string_view line, const std::string& where) {
  while (!line.empty() && (line.back() == '\r' || line.back() == '\t')) line.remove_suffix(1);
  const size_t gap = line.find("\t\t");
  if (gap == std::string_view::npos) {
    fail(ErrorCode::kBadScoreRecords, "{}: expected expert ids, two TABs, and as many weights.",
         where);
  }
  RecordedPass pass{.where = where};
  parse_fields(line.substr(0, gap), pass.ids, where);
  parse_fields(line.substr(gap + 2), pass.weights, where);
  if (pass.ids.size() != pass.weights.size()) {
    fail(ErrorCode::kBadScoreRecords, "{}: {} expert ids, but {} weights.", where, pass.ids.size(),
         pass.weights.size());
  }
  for (int64_t id : pass.ids) {
    if (id < 0 || id >= kMaxExperts) {
      fail(ErrorCode::kBadScoreRecords, "{}: {} is no expert id.", where, id);
    }
  }
  for (float weight : pass.weights) {
    if (!std::isfinite(weight) || weight < 0) {
      fail(ErrorCode::kBadScoreRecords,
           "{}: {} is no routing weight. Are the weights of the model that was run finite?", where,
           weight);
    }
  }
  return pass;
}

std::vector<RecordedPass> read_record_file(const fs::path& path) {
  const std::string text = read_file(path, kMaxRecordBytes);
  std::vector<RecordedPass> passes;
  size_t begin = 0;
  for (int number = 1; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    if (!line.empty()) {
      passes.push_back(parse_line(line, fmt::format("{}:{}", path.string(), number)));
    }
    begin = end + 1;
  }
  return passes;
}

bool is_record_file(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with(kRecordPrefix) && name.ends_with(".txt");
}

// A script that does not know the number of a layer writes `expert_weights_unknown.txt`: all its
// layers are in that file.
int record_layer(const fs::path& path) {
  const std::string name = path.filename().string();
  const char* const begin = name.data() + kRecordPrefix.size();
  const char* const end = name.data() + name.size() - 4;
  int layer = 0;
  const auto [stop, error] = std::from_chars(begin, end, layer);
  if (error != std::errc() || stop != end || layer < 0) {
    fail(ErrorCode::kBadScoreRecords,
         "{}: `{}` is no layer number, so these records belong to no layer. Expected "
         "expert_weights_<layer>.txt.",
         path.string(), std::string_view(begin, static_cast<size_t>(end - begin)));
  }
  return layer;
}

bool is_rank_folder(const fs::path& entry) {
  return entry.filename().string().starts_with("rank_") && is_folder(entry);
}

void collect_records(const fs::path& folder, LayerRecords& records) {
  for (const fs::path& entry : entries_of(folder)) {
    if (!is_record_file(entry)) continue;
    std::vector<RecordedPass>& all = records[record_layer(entry)];
    for (RecordedPass& pass : read_record_file(entry)) all.push_back(std::move(pass));
  }
}

}  // namespace

LayerRecords all_records(const fs::path& folder) {
  LayerRecords records;
  collect_records(folder, records);
  for (const fs::path& entry : entries_of(folder)) {
    if (is_rank_folder(entry)) collect_records(entry, records);
  }
  if (records.empty()) {
    fail(ErrorCode::kBadScoreRecords,
         "{}: found no expert_weights_<layer>.txt, neither here nor in rank_*/.", folder.string());
  }
  return records;
}

bool holds_records(const fs::path& folder) {
  for (const fs::path& entry : entries_of(folder)) {
    if (is_rank_folder(entry) || is_record_file(entry)) return true;
  }
  return false;
}

}  // namespace sutor
