#include "tests/fuzz/fuzz_target.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "csrc/base/error.h"
#include "csrc/base/file.h"

namespace sutor::fuzz {
namespace fs = std::filesystem;
namespace {

// In memory where the system has such a folder: a fuzzer writes a million files.
class Folder {
 public:
  Folder() {
    std::error_code ignored;
    const fs::path memory = "/dev/shm";
    const fs::path parent =
        fs::is_directory(memory, ignored) ? memory : fs::temp_directory_path(ignored);
    std::string pattern = (parent / "sutor-fuzz-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

const fs::path& folder() {
  static const Folder folder;
  return folder.path();
}

}  // namespace

void run(const FuzzTarget& target, const std::string& bytes) {
  try {
    target.read(bytes);
  } catch (const Error& error) {
    if (error.exit_code() >= kExitInternal) throw;
  }
}

fs::path input_file(std::string_view bytes, const std::string& name) {
  const fs::path path = folder() / name;
  const FileDescriptor file(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
  if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    std::abort();
  }
  return path;
}

fs::path empty_place(const std::string& name) {
  std::error_code ignored;
  fs::remove(folder() / name, ignored);
  return folder() / name;
}

std::string bytes_of(const fs::path& file) { return read_file(file); }

}  // namespace sutor::fuzz
