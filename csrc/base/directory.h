// Directories: what is in them, and how they are made, named, published under a final name complete
// or not at all, and removed. Errors are those of csrc/base/file.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sutor {

// Questions. A name that is not there is an answer; whatever else prevents one (no permission, a
// name too long, links in a circle) throws E0301 with path and reason, never an exception of
// std::filesystem.
//
// All three follow links; a link to nothing is not there.
bool is_there(const std::filesystem::path& path);
bool is_file(const std::filesystem::path& path);    // a regular one
bool is_folder(const std::filesystem::path& path);  // a directory

// Why a path cannot be read as a regular file, to stand behind its name: "does not exist", "is a
// directory", "is a pipe ...", "cannot be read: Permission denied"; "" when it can. Throws nothing.
std::string file_objection(const std::filesystem::path& path);

// Bytes of a regular file. Throws E0301 for anything else.
int64_t bytes_of(const std::filesystem::path& path);

// What a directory holds, in order of name, with its path in front. Throws E0301 when it cannot be
// listed.
std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder);

// Made absolute and without links, "." and ".." as far as it is there.
std::filesystem::path real_path(const std::filesystem::path& path);

// Where the path's last name lies: "." of a plain name.
std::filesystem::path parent_of(const std::filesystem::path& path);
// "runs/my/" -> "runs/my"
std::filesystem::path without_slash(const std::filesystem::path& path);

// With all that lead to it; nothing happens when it is there. Throws E0502.
void make_directory(const std::filesystem::path& path);

// A file or a directory with all that is in it; symbolic links are unlinked, never followed.
// Nothing happens when it is not there. Throws E0502.
void remove_tree(const std::filesystem::path& path);

// Renames a directory to a name that nobody has; E0220 when somebody has it. Not yet durable: fsync
// the parent afterwards.
void rename_new(const std::filesystem::path& from, const std::filesystem::path& to);

// Puts directory `from` in the place of directory `to`, then deletes what was there. Whoever looks
// finds the one or the other, but for an instant on file systems that cannot exchange names.
void replace_directory(const std::filesystem::path& from, const std::filesystem::path& to);

// Mode of a directory that is made anew in this process: 0750 less the umask. Not while other
// threads make files.
unsigned new_directory_mode();

// A directory that appears under its final name complete or not at all. Files are written under
// path(), `.staging-<name>.<random>` beside the final place (mode 0700); publish() fsyncs all of
// them, gives the directory mode 0750 less the umask, renames it without replacing, and fsyncs the
// parent. An unpublished one is removed when the object ends; a crash leaves only the staging name.
class StagedDirectory {
 public:
  // Throws E0220 when `final_path` exists. Makes missing parents.
  explicit StagedDirectory(const std::filesystem::path& final_path);
  ~StagedDirectory();
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;

  const std::filesystem::path& path() const { return staging_; }
  const std::filesystem::path& final_path() const { return final_; }
  // Throws E0220 when somebody else made the final name meanwhile.
  void publish();

 private:
  std::filesystem::path final_;
  std::filesystem::path staging_;
  unsigned published_mode_ = 0;
  bool published_ = false;
};

}  // namespace sutor
