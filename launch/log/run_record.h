// What a training says of itself beside its numbers, in OUTPUT/run_record.json: an entry for every
// start, with the command, the machine, the layout and what trains, and how it ended. One rank
// writes it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "launch/log/run_paths.h"

namespace sutor {

std::filesystem::path run_record_path(const RunPaths& paths);

// "2026-11-28T05:17:21Z": now.
std::string utc_now();

// Name of the processor, cores of the machine, bytes of memory, system, host. What the system does
// not tell is left out.
nlohmann::ordered_json machine_facts();

// {"format": "sutor.run_record", "version": 1, "starts": [...]}; without starts when there is no
// such file or it is damaged: a training does not depend on it. Throws E0301 when it cannot be
// read.
nlohmann::json read_run_record(const std::filesystem::path& path);

class RunRecord {
 public:
  // Adds an entry with "begin" and these facts. `goes_on`: keeps the entries of earlier starts.
  // Throws E0501 or E0502 when it cannot be written.
  RunRecord(std::filesystem::path path, bool goes_on, const nlohmann::ordered_json& facts);

  // Puts facts into the entry, to be written by end().
  void add(const std::string& key, nlohmann::ordered_json value);
  // how: "finished", "stopped" or "failed". Prints a warning when it cannot be written.
  void end(const std::string& how, const std::string& message);

 private:
  std::string text() const;

  std::filesystem::path path_;
  nlohmann::ordered_json record_;
};

}  // namespace sutor
