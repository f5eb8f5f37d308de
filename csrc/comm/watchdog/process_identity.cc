#include "csrc/comm/watchdog/process_identity.h"

#include <signal.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>

#include "csrc/base/process/host.h"

namespace sutor {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The fields of /proc/<pid>/stat behind the command's name: state, parent, ...
std::vector<std::string> stat_fields(int64_t pid) {
  const std::string line = first_line("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream rest(line.substr(name_end + 1));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

constexpr size_t kStateField = 0, kStartTimeField = 19;

// This kernel's namespace of that kind: "pid" or "net".
std::string name_space_of(const std::string& kind) {
  char target[PATH_MAX] = "";
  const ssize_t length = ::readlink(("/proc/self/ns/" + kind).c_str(), target, sizeof target - 1);
  const std::string name_space(target, length > 0 ? static_cast<size_t>(length) : 0);
  return boot_id() + " " + name_space;
}

}  // namespace

ProcessIdentity ProcessIdentity::of_this_process() {
  ProcessIdentity self;
  self.host = host_name();
  self.space = name_space_of("pid");
  self.network = name_space_of("net");
  self.pid = ::getpid();
  const auto fields = stat_fields(self.pid);
  if (fields.size() > kStartTimeField)
    self.start_time = std::atoll(fields[kStartTimeField].c_str());
  return self;
}

char process_state(const ProcessIdentity& process) {
  if (process.space != name_space_of("pid")) return '\0';
  const auto fields = stat_fields(process.pid);
  if (fields.size() <= kStartTimeField) return '\0';
  if (std::atoll(fields[kStartTimeField].c_str()) != process.start_time) return '\0';
  return fields[kStateField][0];
}

void kill_process(const ProcessIdentity& process) {
  if (process_state(process) != '\0') ::kill(static_cast<pid_t>(process.pid), SIGKILL);
}

}  // namespace sutor
