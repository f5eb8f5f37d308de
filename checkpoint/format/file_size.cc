#include "checkpoint/format/file_size.h"

#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;

std::string wrong_size(const fs::path& path, int64_t expected) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) return "nothing";
  if (error) return error.message();
  if (!fs::is_regular_file(status)) return "no regular file";
  const auto found = static_cast<int64_t>(fs::file_size(path, error));
  if (error) return error.message();
  return found == expected ? "" : fmt::format("{} bytes", found);
}

void check_file_size(const fs::path& path, int64_t expected) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error)) && error &&
      error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory) {
    fail(ErrorCode::kUnreadableFile, "cannot look up {}: {}", path.string(), error.message());
  }
  const std::string found = wrong_size(path, expected);
  if (found.empty()) return;
  if (found == "nothing" || found == "no regular file") {
    fail(ErrorCode::kWrongFileSize, "{} is missing or not a regular file", path.string());
  }
  fail(ErrorCode::kWrongFileSize, "{} has {}, but the manifest says {} bytes", path.string(), found,
       expected);
}

}  // namespace sutor
