#include "csrc/base/host.h"

#include <unistd.h>

#include <climits>
#include <fstream>

namespace sutor {

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};  // the last byte stays 0, whatever the length
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  file >> id;
  return id;
}

}  // namespace sutor
