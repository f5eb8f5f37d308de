#include "checkpoint/files/recorded_files.h"

#include <algorithm>
#include <optional>
#include <set>

#include "checkpoint/files/file_content.h"
#include "checkpoint/format/manifest_json.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/huggingface/hf_index.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/parallel.h"
#include "csrc/base/process/progress.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* kFilesKey = "files";
constexpr std::string_view kModelFilesFormat = "sutor.model_files";

// Of a regular file, or of a link to one.
std::optional<int64_t> size_of(const fs::path& path) {
  if (!is_file(path)) return std::nullopt;
  return bytes_of(path);
}

bool is_inner_path(const std::string& path) {
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (!is_plain_name(path.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return true;
}

bool has_size(const fs::path& path, const RecordedFile& file, CorruptionList& corruption) {
  const std::optional<int64_t> bytes = size_of(path);
  if (bytes == file.bytes) return true;
  corruption.add({.code = ErrorCode::kWrongFileSize,
                  .file = path.string(),
                  .expected = fmt::format("{} bytes", file.bytes),
                  .found = bytes ? fmt::format("{} bytes", *bytes) : "no file"});
  return false;
}

void check_file(const fs::path& path, const RecordedFile& file, CorruptionList& corruption) {
  if (!has_size(path, file, corruption)) return;
  const Digest found = content_digest(InputFile(path));
  if (found == file.digest) return;
  corruption.add({.file = path.string(), .expected = file.digest.text(), .found = found.text()});
}

void check_listed(const fs::path& folder, const std::vector<RecordedFile>& files, int threads,
                  CorruptionList& corruption) {
  int64_t bytes = 0;
  for (const RecordedFile& file : files) bytes += file.bytes;
  const Progress progress =
      Progress::of_reading(fmt::format("checking {}", folder.string()), bytes);
  parallel_tasks(threads, static_cast<int64_t>(files.size()), [&](int64_t i) {
    const RecordedFile& file = files[static_cast<size_t>(i)];
    const fs::path path = folder / file.path;
    corruption.check(path, [&] { check_file(path, file, corruption); });
  });
}

}  // namespace

void RecordedOutput::append(std::span<const std::byte> bytes) {
  hasher_.update(bytes);
  file_.append(bytes);
}

RecordedFile RecordedOutput::finish(std::string name) {
  const int64_t bytes = file_.written();
  file_.finish();
  return {std::move(name), bytes, hasher_.digest()};
}

RecordedFile write_recorded(const fs::path& folder, const std::string& name,
                            std::string_view content) {
  write_new_file(folder / name, content);
  return {name, static_cast<int64_t>(content.size()), xxh3(content)};
}

RecordedFile copy_recorded(const fs::path& from, const fs::path& folder, const std::string& name) {
  const InputFile source(from);
  make_directory(parent_of(folder / name));
  OutputFile target(folder / name);
  target.reserve(source.size());
  const Digest digest = append_hashed(source, target);
  target.finish();
  return {name, source.size(), digest};
}

std::string encode_file_list(json body, std::vector<RecordedFile> files) {
  std::sort(files.begin(), files.end(),
            [](const RecordedFile& a, const RecordedFile& b) { return a.path < b.path; });
  body[kFilesKey] = json::array();
  for (const RecordedFile& file : files) {
    body[kFilesKey].push_back(
        {{"path", file.path}, {"bytes", file.bytes}, {"digest", file.digest.text()}});
  }
  return encode_manifest_json(body);
}

json parse_file_list(const std::string& text, const std::string& where, std::string_view format,
                     int64_t version) {
  json body = parse_json(text).value;
  const bool digested = starts_with_digest(text);
  if (!digested && !lists_files(body)) return body;
  return parse_manifest_json(text, where, format, version);
}

bool lists_files(const json& body) { return body.is_object() && body.contains(kFilesKey); }

std::vector<RecordedFile> listed_files(const json& body, const std::string& where) {
  std::vector<RecordedFile> files;
  for (const json& item : list_member(body, kFilesKey, where)) {
    RecordedFile file{member<std::string>(item, "path", where),
                      member<int64_t>(item, "bytes", where), digest_member(item, "digest", where)};
    if (!is_inner_path(file.path) || (!files.empty() && files.back().path >= file.path)) {
      fail_manifest(where,
                    fmt::format("`files` lists {}, which is not a file of the folder, occurs "
                                "twice or is out of order",
                                json(file.path).dump(-1, ' ', /*ensure_ascii=*/true)));
    }
    files.push_back(std::move(file));
  }
  return files;
}

ModelRecord recorded_model_files(const fs::path& path) {
  struct Form {
    const char* file;
    std::string_view format;
    int64_t version;
  };
  constexpr Form kForms[] = {{kModelFilesFile, kModelFilesFormat, kModelFilesVersion},
                             {kMergedInfoFile, kMergedFormat, kMergedExportVersion}};
  for (const Form& form : kForms) {
    const fs::path file = path / form.file;
    if (!is_there(file)) continue;
    const json body = parse_file_list(read_file(file, kMaxManifestBytes), file.string(),
                                      form.format, form.version);
    if (lists_files(body)) return {form.file, listed_files(body, file.string())};
    if (form.file == kModelFilesFile) {
      fail_manifest(file.string(), "it does not list `files`");
    }
  }
  return {};
}

void record_model_files(const fs::path& path, int threads) {
  if (const ModelRecord known = recorded_model_files(path); !known.file.empty()) {
    fail(
        ErrorCode::kOutputExists,
        "{} has a record already, {}. Remove that first, if what is there now is what shall count.",
        path.string(), known.file);
  }
  std::vector<RecordedFile> files;
  for (const fs::path& file : files_below(path)) files.push_back({file.generic_string()});
  parallel_tasks(threads, static_cast<int64_t>(files.size()), [&](int64_t i) {
    RecordedFile& file = files[static_cast<size_t>(i)];
    const InputFile content(path / file.path);
    file.bytes = content.size();
    file.digest = content_digest(content);
  });
  const json body = {{"format", kModelFilesFormat}, {"format_version", kModelFilesVersion}};
  write_file_atomic(path / kModelFilesFile, encode_file_list(body, std::move(files)));
}

void check_recorded(const fs::path& folder, const fs::path& manifest,
                    const std::vector<RecordedFile>& files, int threads,
                    CorruptionList& corruption) {
  check_listed(folder, files, threads, corruption);
  std::set<fs::path> known = {manifest};
  for (const RecordedFile& file : files) known.insert(file.path);
  for (const fs::path& file : files_below(folder)) {
    if (known.contains(file)) continue;
    corruption.add(
        {.code = ErrorCode::kWrongFileSize,
         .file = (folder / file).string(),
         .expected = fmt::format("no such file, as {} does not list it", manifest.string()),
         .found = fmt::format("{} bytes", size_of(folder / file).value_or(0)),
         .repair = "Move it away."});
  }
}

void require_size(const fs::path& folder, const RecordedFile& file, const std::string& repair) {
  CorruptionList corruption(repair);
  if (has_size(folder / file.path, file, corruption)) return;
  fail(ErrorCode::kWrongFileSize, "{}", corruption.take().at(0).text());
}

void require_recorded(const fs::path& folder, const std::vector<RecordedFile>& files, int threads,
                      const std::string& repair) {
  CorruptionList corruption(repair);
  check_listed(folder, files, threads, corruption);
  const std::vector<Corruption> found = corruption.take();
  if (!found.empty()) fail(found[0].code, "{}", found[0].text());
}

}  // namespace sutor
