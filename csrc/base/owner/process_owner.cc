#include "csrc/base/owner/process_owner.h"

#include <fmt/chrono.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/process/host.h"

namespace sutor {
namespace {

constexpr int64_t kDay = 24 * 60 * 60;
constexpr size_t kMostCommand = 400;
constexpr int64_t kMostOwnerBytes = int64_t{1} << 16;

// Of /proc, whose files have no size.
std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct ProcessStat {
  char state = '\0';  // none: it cannot be read
  int64_t start_ticks = 0;
};

ProcessStat stat_of(const std::string& process) {
  const std::string text = text_of("/proc/" + process + "/stat");
  const size_t name_end = text.rfind(')');  // the program's name may hold blanks and parentheses
  if (name_end == std::string::npos) return {};
  std::istringstream fields(text.substr(name_end + 1));
  ProcessStat found;
  fields >> found.state;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> found.start_ticks;
  return fields ? found : ProcessStat{};
}

std::string pid_namespace() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string();
}

std::string command_line() {
  std::string text = text_of("/proc/self/cmdline");
  while (!text.empty() && text.back() == '\0') text.pop_back();
  std::replace(text.begin(), text.end(), '\0', ' ');
  if (text.size() > kMostCommand) text = text.substr(0, kMostCommand) + " ...";
  return text;
}

}  // namespace

std::string ProcessOwner::text() const {
  std::string text = fmt::format("process {} of host {}", pid, host.empty() ? "unknown" : host);
  if (started > 0 && started < int64_t{1} << 40) {
    text += fmt::format(", since {:%Y-%m-%d %H:%M:%S} UTC",
                        fmt::gmtime(static_cast<std::time_t>(started)));
  }
  return command.empty() ? text : fmt::format("{} ({})", text, command);
}

ProcessOwner this_process() {
  return {.host = host_name(),
          .boot_id = boot_id(),
          .pid_namespace = pid_namespace(),
          .pid = ::getpid(),
          .start_ticks = stat_of("self").start_ticks,
          .started = static_cast<int64_t>(std::time(nullptr)),
          .command = command_line()};
}

std::string to_json(const ProcessOwner& owner) {
  const nlohmann::json json = {{"host", owner.host},
                               {"boot_id", owner.boot_id},
                               {"pid_namespace", owner.pid_namespace},
                               {"pid", owner.pid},
                               {"start_ticks", owner.start_ticks},
                               {"started", owner.started},
                               {"command", owner.command}};
  // A command line need not be UTF-8.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::optional<ProcessOwner> parse_owner(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return {};
  const auto word = [&](const char* key) {
    const auto at = json.find(key);
    return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  const auto number = [&](const char* key) {
    const auto at = json.find(key);
    return at != json.end() && at->is_number_integer() ? at->get<int64_t>() : int64_t{0};
  };
  return ProcessOwner{.host = word("host"),
                      .boot_id = word("boot_id"),
                      .pid_namespace = word("pid_namespace"),
                      .pid = number("pid"),
                      .start_ticks = number("start_ticks"),
                      .started = number("started"),
                      .command = word("command")};
}

OwnerState state_of(const ProcessOwner& owner) {
  const std::string boot = boot_id();
  if (owner.host != host_name() || boot.empty() || owner.boot_id != boot || owner.pid < 1) {
    return OwnerState::kUnknown;
  }
  if (!owner.pid_namespace.empty() && owner.pid_namespace != pid_namespace()) {
    return OwnerState::kUnknown;
  }
  if (::kill(static_cast<pid_t>(owner.pid), 0) != 0 && errno == ESRCH) return OwnerState::kGone;
  const ProcessStat now = stat_of(std::to_string(owner.pid));
  if (now.state == '\0') return OwnerState::kAlive;  // of another user, and hidden
  if (now.state == 'Z' || now.state == 'X') return OwnerState::kGone;
  const bool reused = owner.start_ticks > 0 && owner.start_ticks != now.start_ticks;
  return reused ? OwnerState::kGone : OwnerState::kAlive;
}

void write_owner(const std::filesystem::path& path) {
  OutputFile file(path, OutputFile::kPrivate);
  file.append(to_json(this_process()));
  file.finish();
}

bool has_owner(const std::filesystem::path& staging) {
  if (!is_there(staging / kOwnerFile)) return false;
  try {
    return parse_owner(read_file(staging / kOwnerFile, kMostOwnerBytes)).has_value();
  } catch (const Error&) {
    return true;  // whose, cannot be said now
  }
}

bool owner_is_gone(const std::filesystem::path& staging) {
  struct stat status;
  if (::lstat(staging.c_str(), &status) != 0) return false;
  std::optional<ProcessOwner> owner;
  try {
    owner = parse_owner(read_file(staging / kOwnerFile, kMostOwnerBytes));
  } catch (const Error&) {
    owner.reset();
  }
  if (owner) {
    const OwnerState state = state_of(*owner);
    if (state != OwnerState::kUnknown) return state == OwnerState::kGone;
    const std::string boot = boot_id();
    const bool this_host = owner->host == host_name() && !owner->boot_id.empty() && !boot.empty();
    if (this_host && owner->boot_id != boot) return true;
  }
  return std::time(nullptr) - status.st_mtime > kDay;
}

}  // namespace sutor
