#include "launch/inspect/inspect_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "csrc/base/text/json.h"
#include "launch/log/metrics_log.h"

namespace sutor {
namespace {

using nlohmann::ordered_json;

std::string key_of(std::string label) {
  std::replace(label.begin(), label.end(), ' ', '_');
  return label;
}

std::string text_of(const ordered_json& value) {
  if (value.is_number_integer()) return format_count(value.get<int64_t>());
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "-";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return dump_json(value);
}

}  // namespace

std::string bytes_text(int64_t bytes) {
  static constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB"};
  if (bytes < 1000) return fmt::format("{} bytes", bytes);
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (value /= 1000; value >= 999.95 && unit + 1 < std::size(kUnits); ++unit) value /= 1000;
  return fmt::format("{:.1f} {} ({} bytes)", value, kUnits[unit], format_count(bytes));
}

std::string percent_text(double share) { return fmt::format("{:.2f}%", 100 * share); }

InspectReport::InspectReport(const std::string& kind, const std::string& path)
    : title_(fmt::format("{}: {}", kind, path)) {
  data_["kind"] = key_of(kind);
  data_["path"] = path;
}

void InspectReport::add(const std::string& label, ordered_json value) {
  const std::string text = text_of(value);
  add(label, std::move(value), text);
}

void InspectReport::add(const std::string& label, ordered_json value, const std::string& text) {
  data_[key_of(label)] = std::move(value);
  if (!text.empty()) lines_.emplace_back(label, text);
}

void InspectReport::add_table(const std::string& label, const std::vector<std::string>& columns,
                              const std::vector<std::vector<ordered_json>>& rows) {
  ordered_json list = ordered_json::array();
  std::vector<std::vector<std::string>> cells = {columns};
  for (const auto& row : rows) {
    ordered_json object;
    std::vector<std::string> texts;
    for (size_t c = 0; c < columns.size(); ++c) {
      object[key_of(columns[c])] = row[c];
      texts.push_back(text_of(row[c]));
    }
    list.push_back(std::move(object));
    cells.push_back(std::move(texts));
  }
  data_[key_of(label)] = std::move(list);
  if (rows.empty()) return;
  std::vector<size_t> widths(columns.size(), 0);
  for (const auto& row : cells) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  tables_ += fmt::format("\n{}\n", label);
  for (const auto& row : cells) {
    tables_ += fmt::format("  {:<{}}", row[0], widths[0]);
    for (size_t c = 1; c < row.size(); ++c) tables_ += fmt::format("  {:>{}}", row[c], widths[c]);
    tables_ += '\n';
  }
}

std::string InspectReport::text() const {
  size_t width = 0;
  for (const auto& [label, value] : lines_) width = std::max(width, label.size());
  std::string text = title_ + "\n";
  for (const auto& [label, value] : lines_) {
    text += fmt::format("  {:<{}}  {}\n", label, width, value);
  }
  return text + tables_;
}

std::string InspectReport::json() const {
  return data_.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sutor
