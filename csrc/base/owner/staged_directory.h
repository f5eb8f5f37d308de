// A directory that appears under its final name complete or not at all. Files are written under
// path(); beside the final place stands, while that goes on,
//   .staging-<name>.<random>/   mode 0700
//     OWNER                     process_owner.h
//     content/                  path()
// A crash leaves that alone, and the next one of the same final name removes it.
#pragma once

#include <filesystem>

namespace sutor {

class StagedDirectory {
 public:
  // Makes missing parents. Throws E0220 when `final_path` exists, with `replace` only when it is
  // something else than a directory.
  explicit StagedDirectory(const std::filesystem::path& final_path, bool replace = false);
  // Removes what was not published.
  ~StagedDirectory();
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;

  const std::filesystem::path& path() const { return content_; }
  const std::filesystem::path& final_path() const { return final_; }
  // Fsyncs everything, gives it the final name, fsyncs the parent; then what was replaced is
  // deleted. Throws E0220 when somebody else made the final name meanwhile.
  void publish();

 private:
  std::filesystem::path final_, root_, content_;
  bool replace_;
  bool published_ = false;
};

}  // namespace sutor
