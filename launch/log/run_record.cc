#include "launch/log/run_record.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <fstream>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/process/host.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

constexpr const char* kFormat = "sutor.run_record";

// The name of the first processor that /proc/cpuinfo lists; "" where it lists none.
std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

nlohmann::json empty_record() {
  return {{"format", kFormat}, {"version", kRunRecordVersion}, {"starts", nlohmann::json::array()}};
}

}  // namespace

std::filesystem::path run_record_path(const RunPaths& paths) {
  return paths.output / "run_record.json";
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

nlohmann::ordered_json machine_facts() {
  nlohmann::ordered_json facts = {{"host", host_name()}};
  if (const std::string name = processor_name(); !name.empty()) facts["processor"] = name;
  if (const long cores = ::sysconf(_SC_NPROCESSORS_ONLN); cores > 0) facts["cores"] = cores;
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) facts["memory_bytes"] = static_cast<int64_t>(pages) * page;
  utsname system{};
  if (::uname(&system) == 0) {
    facts["system"] = fmt::format("{} {} {}", system.sysname, system.release, system.machine);
  }
  return facts;
}

nlohmann::json read_run_record(const std::filesystem::path& path) {
  if (!is_there(path)) return empty_record();
  nlohmann::json record = parse_json(read_file(path)).value;
  if (!record.is_object() || record.value("format", nlohmann::json()) != kFormat ||
      record.value("version", nlohmann::json()) != kRunRecordVersion ||
      !record.contains("starts") || !record["starts"].is_array()) {
    return empty_record();
  }
  return record;
}

RunRecord::RunRecord(std::filesystem::path path, bool goes_on, const nlohmann::ordered_json& facts)
    : path_(std::move(path)), record_(goes_on ? read_run_record(path_) : empty_record()) {
  nlohmann::ordered_json start = {{"begin", utc_now()}};
  start.update(facts);
  record_["starts"].push_back(std::move(start));
  write_file_atomic(path_, text());
}

void RunRecord::add(const std::string& key, nlohmann::ordered_json value) {
  record_["starts"].back()[key] = std::move(value);
}

void RunRecord::end(const std::string& how, const std::string& message) {
  nlohmann::ordered_json end = {{"time", utc_now()}, {"how", how}};
  if (!message.empty()) end["message"] = message;
  add("end", std::move(end));
  try {
    write_file_atomic(path_, text());
  } catch (const Error& error) {
    fmt::print(stderr, "warning: how the training ended is not recorded: {}\n", error.what());
  }
}

std::string RunRecord::text() const { return dump_json(record_, 1) + "\n"; }

}  // namespace sutor
