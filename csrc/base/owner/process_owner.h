// Who has made something on the disk that only one process may use at a time, and whether that
// process still runs: work in progress is told from the leftovers of a crash.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace sutor {

inline constexpr std::string_view kOwnerFile = "OWNER";  // in a staging directory only

struct ProcessOwner {
  std::string host, boot_id;
  std::string pid_namespace;  // process ids of other containers mean nothing here
  int64_t pid = 0;
  int64_t start_ticks = 0;  // of the process, since the boot: an id is given away again
  int64_t started = 0;      // seconds since 1970, when the record was made
  std::string command;

  // "process 4711 of host h, since 2026-11-28 05:20:11 UTC (sutor train my.yaml)"
  std::string text() const;
};

ProcessOwner this_process();

// One line of JSON, and what it says; nothing for a text that is no such record.
std::string to_json(const ProcessOwner& owner);
std::optional<ProcessOwner> parse_owner(std::string_view json);

enum class OwnerState {
  kAlive,    // that process runs here
  kGone,     // it ran here since the last boot, and has ended
  kUnknown,  // of another host, container or boot
};
OwnerState state_of(const ProcessOwner& owner);

// Writes the record of this process, readable by its user alone. Errors as OutputFile's.
void write_owner(const std::filesystem::path& path);

// Of a staging directory: false when it has no OWNER, or one that is no record (a kill while it was
// written leaves such).
bool has_owner(const std::filesystem::path& staging);

// Of a staging directory: true when its owner is certainly gone: the process has ended, or this
// host was started again since then; or the directory is older than a day and its owner cannot be
// checked from here.
bool owner_is_gone(const std::filesystem::path& staging);

}  // namespace sutor
