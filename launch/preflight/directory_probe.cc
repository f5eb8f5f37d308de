#include "launch/preflight/directory_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <map>

#include "csrc/base/directory.h"
#include "csrc/base/file.h"
#include "csrc/base/text/text.h"
#include "launch/log/run_paths.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr auto kLeftAfter = std::chrono::hours(1);
constexpr int64_t kProbeBytes = 4096;

bool is_absent_feature(int error) {
  return error == EINVAL || error == ENOLCK || is_not_supported(error);
}

std::string name_of_file_system(const fs::path& directory) {
  static const std::map<uint64_t, const char*> names = {
      {0xEF53, "ext4"},       {0x58465342, "xfs"},  {0x9123683E, "btrfs"},
      {0x01021994, "tmpfs"},  {0x6969, "nfs"},      {0x794C7630, "overlayfs"},
      {0x0BD00BD0, "lustre"}, {0x47504653, "gpfs"}, {0x65735546, "fuse"},
      {0x01021997, "9p"},     {0x00C36400, "ceph"}, {0x19830326, "beegfs"},
      {0xFF534D42, "cifs"},   {0xFE534D42, "smb2"}, {0x2FC12FC1, "zfs"}};
  struct statfs status;
  if (::statfs(directory.c_str(), &status) != 0) return "an unknown file system";
  const auto type = static_cast<uint64_t>(static_cast<uint32_t>(status.f_type));
  const auto found = names.find(type);
  return found == names.end() ? fmt::format("file system {:#x}", type) : found->second;
}

int64_t free_bytes(const fs::path& directory) {
  struct statvfs space;
  if (::statvfs(directory.c_str(), &space) != 0 || space.f_blocks == 0) return -1;
  return static_cast<int64_t>(space.f_bavail) * static_cast<int64_t>(space.f_frsize);
}

void remove_old_probes(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> old;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (!at->path().filename().string().starts_with(RunPaths::kProbePrefix)) continue;
    if (!fs::is_directory(at->symlink_status(ignored))) continue;
    const auto age = fs::file_time_type::clock::now() - at->last_write_time(ignored);
    if (!ignored && age > kLeftAfter) old.push_back(at->path());
  }
  for (const fs::path& probe : old) fs::remove_all(probe, error);
}

// A folder that goes with the object.
class ProbeFolder {
 public:
  explicit ProbeFolder(const fs::path& directory)
      : path_(directory / fmt::format("{}{}", RunPaths::kProbePrefix, random_hex())) {
    if (::mkdir(path_.c_str(), 0700) != 0) fail_write(path_, "make directory", errno);
  }
  ~ProbeFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ProbeFolder(const ProbeFolder&) = delete;
  ProbeFolder& operator=(const ProbeFolder&) = delete;
  fs::path operator/(const char* name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void try_flags(const fs::path& from, const fs::path& to, unsigned flags, const char* name,
               std::vector<std::string>& lacks) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0) return;
  if (!is_absent_feature(errno)) fail_write(to, "rename to", errno);
  lacks.emplace_back(name);
  if (flags == RENAME_NOREPLACE && ::rename(from.c_str(), to.c_str()) != 0) {
    fail_write(to, "rename to", errno);
  }
}

void try_file(const fs::path& file, DirectoryProbe& probe) {
  const FileDescriptor fd(
      ::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd.get() < 0) fail_write(file, "create", errno);
  if (::fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 0, kProbeBytes) != 0) {
    if (!is_absent_feature(errno)) fail_write(file, "reserve", errno, kProbeBytes);
    probe.lacks.emplace_back("fallocate");
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) probe.lacks.emplace_back("flock");
  const std::string content(kProbeBytes, '.');
  const ssize_t n = ::write(fd.get(), content.data(), content.size());
  if (n != kProbeBytes) fail_write(file, "write", n < 0 ? errno : ENOSPC, kProbeBytes);
  if (::fsync(fd.get()) != 0) fail_write(file, "fsync", errno, kProbeBytes);
  struct stat status;
  if (::fstat(fd.get(), &status) != 0) fail_write(file, "look up", errno);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  probe.seconds_ahead =
      static_cast<double>(status.st_mtim.tv_sec) - std::chrono::duration<double>(now).count();
}

}  // namespace

DirectoryProbe probe_directory(const fs::path& directory) {
  DirectoryProbe probe;
  remove_old_probes(directory);
  {
    const ProbeFolder folder(directory);
    try_file(folder / "a", probe);
    try_flags(folder / "a", folder / "b", RENAME_NOREPLACE, "rename without replacing",
              probe.lacks);
    write_new_file(folder / "a", "");
    try_flags(folder / "a", folder / "b", RENAME_EXCHANGE, "exchange of names", probe.lacks);
    fsync_directory(folder.path());
    for (const char* name : {"a", "b"}) {
      if (::unlink((folder / name).c_str()) != 0) fail_write(folder / name, "remove", errno);
    }
  }
  fsync_directory(directory);
  probe.file_system = name_of_file_system(directory);
  probe.free_bytes = free_bytes(directory);
  return probe;
}

}  // namespace sutor
