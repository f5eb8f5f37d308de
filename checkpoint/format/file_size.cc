#include "checkpoint/format/file_size.h"

#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;

std::string wrong_size(const fs::path& path, int64_t expected) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) return "nothing";
  if (!fs::is_regular_file(status)) return "no regular file";
  const auto found = static_cast<int64_t>(fs::file_size(path, error));
  if (error) return error.message();
  return found == expected ? "" : fmt::format("{} bytes", found);
}

void check_file_size(const fs::path& path, int64_t expected) {
  const std::string found = wrong_size(path, expected);
  if (found.empty()) return;
  if (found == "nothing" || found == "no regular file") {
    fail(ErrorCode::kWrongFileSize, "{} is missing or no regular file", path.string());
  }
  fail(ErrorCode::kWrongFileSize, "{} has {}, but the manifest says {} bytes", path.string(), found,
       expected);
}

}  // namespace sutor
