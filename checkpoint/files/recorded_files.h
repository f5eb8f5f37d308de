// Size and digest of each file of a folder, as a manifest in that folder lists them: exports carry
// such a list, so that every byte of them can be checked without the base that they were made from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/format/corruption.h"
#include "csrc/base/file.h"
#include "csrc/base/hash.h"

namespace sutor {

struct RecordedFile {
  std::string path;  // below the folder, with '/'
  int64_t bytes = 0;
  Digest digest;  // of all its bytes, as they were meant
};

// A new file that remembers the digest of what was written to it.
class RecordedOutput {
 public:
  explicit RecordedOutput(const std::filesystem::path& path) : file_(path) {}
  int64_t written() const { return file_.written(); }
  void reserve(int64_t bytes) { file_.reserve(bytes); }
  void append(std::span<const std::byte> bytes);
  // fsync and close. `name`: the path below the folder.
  RecordedFile finish(std::string name);

 private:
  OutputFile file_;
  Hasher hasher_;
};

// write_new_file() and copies of a file, below `folder`; they record what they wrote.
RecordedFile write_recorded(const std::filesystem::path& folder, const std::string& name,
                            std::string_view content);
RecordedFile copy_recorded(const std::filesystem::path& from, const std::filesystem::path& folder,
                           const std::string& name);

// The text of a manifest that lists the files: `body` with a member `files`, and the digest of
// everything in its first line (format/manifest_json.h).
std::string encode_file_list(nlohmann::json body, std::vector<RecordedFile> files);
// The body of such a text, checked against its digest. A text of older programs, which have no list
// and no digest, is its JSON value, discarded when it is not JSON. Throws E0342 naming `where` when
// the digest does not match, E0343 for another version than `version`.
nlohmann::json parse_file_list(const std::string& text, const std::string& where,
                               std::string_view format, int64_t version);
// Whether such a body lists files: those of older programs do not.
bool lists_files(const nlohmann::json& body);
// Throws E0342 when a name could lead out of the folder or occurs twice.
std::vector<RecordedFile> listed_files(const nlohmann::json& body, const std::string& where);

// Of a model directory: its export says it (sutor_export.json), or `sutor verify --record` wrote it
// down (sutor_files.json).
constexpr const char* kMergedInfoFile = "sutor_export.json";
constexpr std::string_view kMergedFormat = "sutor.merged_export";
constexpr const char* kModelFilesFile = "sutor_files.json";

struct ModelRecord {
  std::string file;  // the name of the one of these that says it; empty: nothing does
  std::vector<RecordedFile> files;
};
// sutor_files.json if it is there. Throws E0342, E0343.
ModelRecord recorded_model_files(const std::filesystem::path& path);
// Writes sutor_files.json. Throws E0220 when the directory has a record already.
void record_model_files(const std::filesystem::path& path, int threads);

// Checks the size and the digest of each listed file, on `threads` threads (0 = all), and that the
// folder has no others but `manifest`. Links to files count as files.
void check_recorded(const std::filesystem::path& folder, const std::filesystem::path& manifest,
                    const std::vector<RecordedFile>& files, int threads,
                    CorruptionList& corruption);
// Throws E0344 when a listed file is missing or has another size. Links to files count as files.
void require_size(const std::filesystem::path& folder, const RecordedFile& file,
                  const std::string& repair);
// Throws the first corruption of these files, E0344 or E0347; extra files are not looked for.
void require_recorded(const std::filesystem::path& folder, const std::vector<RecordedFile>& files,
                      int threads, const std::string& repair);

}  // namespace sutor
