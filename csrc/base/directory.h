// Directories: what is in them, how they are made, named, replaced and removed; and what stands in
// the place of an output. Errors are those of csrc/base/file.h.
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

// Whether anything has this name, a symbolic link without an end too. Throws nothing: false when
// that cannot be said.
bool is_name_taken(const std::filesystem::path& path);

// Whether an errno means that a file system does not have a call or a flag at all (524 is the
// kernel's ENOTSUPP, which Lustre and others let out). Some calls answer by others beside.
bool is_not_supported(int error);

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

// With all that lead to it, and makes their names survive a power cut; nothing happens when it is
// there. Throws E0502.
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

// Mode of a directory that is made anew: 0777 less the umask.
unsigned new_directory_mode();

// Outputs replace plain files only: throws E0220, saying what it is, when a link, a folder, a
// device or the like stands at `path`. Nothing there is fine.
void require_plain_file(const std::filesystem::path& path);
// Outputs go into folders of their own, never through a link: likewise when anything but a
// directory stands there.
void require_own_directory(const std::filesystem::path& path);

// Whether `inner` is `outer` or lies somewhere in it, links resolved.
bool lies_within(const std::filesystem::path& inner, const std::filesystem::path& outer);

// A name beside `path` for content that is to replace it: ".<name>.<random>.tmp".
std::filesystem::path temporary_name(const std::filesystem::path& path);
// Removes the files of such names that a crash left in a folder. For one who alone writes there.
void remove_temporaries(const std::filesystem::path& folder);

}  // namespace sutor
