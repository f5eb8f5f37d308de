#include "launch/steps/step_fingerprint.h"

#include <algorithm>

#include "checkpoint/files/file_content.h"
#include "csrc/base/directory.h"
#include "csrc/base/file.h"
#include "csrc/base/profile.h"

namespace sutor {
namespace {

constexpr int64_t kStepFormat = 1;  // counts up whenever what a step writes changes

bool is_at_or_below(const std::filesystem::path& path, const std::filesystem::path& folder) {
  const auto [end, ignored] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return end == folder.end();
}

}  // namespace

Digest file_digest(const std::filesystem::path& path) {
  const ProfileScope scope("read file for its digest");
  return content_digest(InputFile(path));
}

const std::string& FileDigests::of(const std::filesystem::path& path) {
  const auto known = known_.find(path);
  if (known != known_.end()) return known->second;
  const bool there = is_file(path);
  return known_[path] = there ? file_digest(path).text() : "absent";
}

void FileDigests::forget(const std::filesystem::path& path) {
  std::erase_if(known_, [&](const auto& known) { return is_at_or_below(known.first, path); });
}

Digest step_fingerprint(const std::string& keys, const std::vector<std::filesystem::path>& inputs,
                        const std::vector<std::string>& digests, FileDigests& files) {
  Hasher hasher;
  hasher.update_int(kStepFormat);
  hasher.update(keys);
  for (const std::filesystem::path& input : inputs) hasher.update(files.of(input));
  for (const std::string& digest : digests) hasher.update(digest + "\n");
  return hasher.digest();
}

}  // namespace sutor
