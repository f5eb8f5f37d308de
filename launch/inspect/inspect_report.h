// What `sutor inspect` found, as a table for people and as JSON for programs.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace sutor {

std::string bytes_text(int64_t bytes);   // "12.9 GB (12,901,234,567 bytes)"
std::string percent_text(double share);  // 0.0431 -> "4.31%"

class InspectReport {
 public:
  // kind: "token store", "partial checkpoint" ...
  InspectReport(const std::string& kind, const std::string& path);

  // Adds a line to the table. The JSON key is the label with '_' for ' '. Without `text` the value
  // is printed as it is, integers with commas; an empty text leaves the line out of the table.
  void add(const std::string& label, nlohmann::ordered_json value);
  void add(const std::string& label, nlohmann::ordered_json value, const std::string& text);
  // Adds rows under a heading; the first column is aligned left, all others right. JSON: a list of
  // objects with the column names as keys.
  void add_table(const std::string& label, const std::vector<std::string>& columns,
                 const std::vector<std::vector<nlohmann::ordered_json>>& rows);

  std::string text() const;
  std::string json() const;

 private:
  std::string title_;
  std::vector<std::pair<std::string, std::string>> lines_;
  std::string tables_;
  nlohmann::ordered_json data_;
};

}  // namespace sutor
