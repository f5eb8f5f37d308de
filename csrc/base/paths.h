// Questions to the file system. A name that is not there is an answer; whatever else prevents one
// (no permission, a name too long, links in a circle) throws E0301 with path and reason, never an
// exception of std::filesystem.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sutor {

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

}  // namespace sutor
