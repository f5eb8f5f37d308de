// What a step's outputs depend on, as one digest: its recipe keys and the content of its inputs.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "csrc/base/hash.h"

namespace sutor {

// Of a file's content, read in blocks of a fixed size. Throws E0301, E0303.
Digest file_digest(const std::filesystem::path& path);

// Digests of files; each file is read once, however many steps take it as input.
class FileDigests {
 public:
  // "xxh3:...", or "absent" when there is no such regular file.
  const std::string& of(const std::filesystem::path& path);
  // What is at or below this path was written anew.
  void forget(const std::filesystem::path& path);

 private:
  std::map<std::filesystem::path, std::string> known_;
};

// keys: step_keys(). inputs: files, in a fixed order; one that is not there counts as such.
// digests: of inputs that are no single files (the base model). The version of what steps write
// counts too.
Digest step_fingerprint(const std::string& keys, const std::vector<std::filesystem::path>& inputs,
                        const std::vector<std::string>& digests, FileDigests& files);

}  // namespace sutor
