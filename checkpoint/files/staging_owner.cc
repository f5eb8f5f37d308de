#include "checkpoint/files/staging_owner.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/format/checkpoint_paths.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/host.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

constexpr int64_t kDay = 24 * 60 * 60;

}  // namespace

void write_owner(const std::filesystem::path& path) {
  const nlohmann::json owner = {{"host", host_name()},
                                {"boot_id", boot_id()},
                                {"pid", ::getpid()},
                                {"started", static_cast<int64_t>(std::time(nullptr))}};
  write_new_file(path, dump_json(owner) + "\n");
}

bool owner_is_gone(const std::filesystem::path& staging) {
  struct stat status;
  if (::lstat(staging.c_str(), &status) != 0) return false;
  const bool old = std::time(nullptr) - status.st_mtime > kDay;
  nlohmann::json owner;
  try {
    owner = parse_json(read_file(staging / kOwnerFile)).value;
  } catch (const Error&) {  // nobody's, or not readable: only its age counts
  }
  if (!owner.is_object()) return old;
  const auto text = [&](const char* key) {
    const auto at = owner.find(key);
    return at != owner.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  const auto pid = owner.find("pid");
  if (text("host") != host_name() || text("boot_id").empty() || boot_id().empty() ||
      pid == owner.end() || !pid->is_number_integer()) {
    return old;
  }
  if (text("boot_id") != boot_id()) return true;
  return ::kill(pid->get<pid_t>(), 0) != 0 && errno == ESRCH;
}

}  // namespace sutor
