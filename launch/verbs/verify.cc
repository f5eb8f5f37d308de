// sutor verify: checks that stores, model directories, checkpoints, adapters, token stores, scores,
// expert configs and what receipts list are as they were written.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/compare/artifact_kind.h"
#include "checkpoint/compare/verification.h"
#include "checkpoint/files/recorded_files.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "csrc/base/process/progress.h"
#include "launch/cli/command_line.h"
#include "launch/data/rows/sha256.h"
#include "launch/inspect/inspect_model.h"
#include "launch/inspect/verify_artifact.h"
#include "launch/inspect/verify_file.h"
#include "launch/job/failure.h"
#include "launch/log/metrics_log.h"
#include "launch/report/receipt_check.h"

namespace po = boost::program_options;
namespace fs = std::filesystem;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "verify",
    "Reads base stores, model directories, exports, checkpoints (or a folder of them), adapters, "
    "token\nstores, scores, expert configs and receipts (with all that they list) to the last byte "
    "and checks\nevery digest that they record; says what has none. Changes nothing. Exit code 0: "
    "all "
    "is as it was\nwritten; 3: corruption, one line each with the way to repair it.",
    "sutor verify PATH... [--threads N] [--json] [--record] [--deep]",
    "sutor verify base/ runs/my/checkpoints runs/my/export/adapter runs/my/scores.h5\n"
    "sutor verify runs/my/receipt.json\n"
    "sutor verify DeepSeek-V2-Lite/ --json\n"
    "sutor verify base/ --deep | grep -E '^[0-9a-f]{64} ' > base.sha256   # for sha256sum -c"};

using FileSums = std::vector<std::pair<fs::path, std::string>>;  // SHA-256 in hex digits

struct Timed {
  Verification result;
  double seconds = 0;
  FileSums sums{};  // with --deep
};

struct Target {
  fs::path path;
  ArtifactKind kind = ArtifactKind::kOther;
  std::optional<FileKind> file{};  // of a single file
  bool receipt = false;
};

void add_files(const fs::path& path, std::vector<fs::path>& files);

int64_t bytes_below(const fs::path& path) {
  std::vector<fs::path> files;
  add_files(path, files);
  int64_t bytes = 0;
  for (const fs::path& file : files) bytes += bytes_of(file);
  return bytes;
}

Verification verify_target(const Target& target, int threads) {
  if (target.receipt) return verify_receipt(target.path, threads);
  return target.file ? verify_file(target.path, *target.file)
                     : verify_artifact(target.path, target.kind, threads);
}

Timed verify_timed(const Target& target, int threads) {
  const Progress progress = Progress::of_reading(fmt::format("verify {}", target.path.string()),
                                                 bytes_below(target.path));
  const auto begin = std::chrono::steady_clock::now();
  Timed timed{verify_target(target, threads)};
  timed.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return timed;
}

void add_files(const fs::path& path, std::vector<fs::path>& files) {
  if (is_file(path)) files.push_back(path);
  std::error_code error;
  if (!is_folder(path) || fs::is_symlink(path, error)) return;
  for (const fs::path& entry : entries_of(path)) add_files(entry, files);
}

// Of all files of a target, in the order of their names. What is no regular file has none.
FileSums file_sums(const fs::path& path, int threads) {
  const Progress progress =
      Progress::of_reading(fmt::format("SHA-256 of {}", path.string()), bytes_below(path));
  std::vector<fs::path> files;
  add_files(path, files);
  FileSums sums(files.size());
  parallel_tasks(threads, static_cast<int64_t>(files.size()), [&](int64_t i) {
    const fs::path& file = files[static_cast<size_t>(i)];
    const std::string text = sha256_of_file(file);
    sums[static_cast<size_t>(i)] = {file, text.substr(text.find(':') + 1)};
  });
  return sums;
}

// The given paths, with folders of checkpoints replaced by their checkpoints.
std::vector<Target> targets(const std::vector<std::string>& paths) {
  std::vector<Target> found;
  for (const std::string& given : paths) {
    const fs::path path = existing_path(given);
    if (is_receipt(path)) {
      found.push_back({.path = path, .receipt = true});
      continue;
    }
    if (const auto file = file_kind(path); file && is_file(path)) {
      found.push_back({.path = path, .file = file});
      continue;
    }
    const ArtifactKind kind = artifact_kind(path);
    if (kind == ArtifactKind::kOther) {
      fail(ErrorCode::kUnknownArtifact,
           "sutor verify does not know what {} is{}. Known are base stores, directories with "
           "config.json, step-* directories and folders of them, adapters (expert_cfg.json or "
           "adapter_config.json), token stores (*.tokens.h5), scores (*.h5) and expert configs "
           "(*.json) and receipts (receipt.json).",
           path.string(), trainer_text(path));
    }
    if (kind != ArtifactKind::kCheckpointFolder) {
      found.push_back({path, kind});
      continue;
    }
    for (const fs::path& step : steps_below(path)) {
      found.push_back({step, ArtifactKind::kCheckpoint});
    }
  }
  return found;
}

void print_text(const Timed& timed) {
  const Verification& result = timed.result;
  if (!result.corruption.empty()) {
    fmt::print("CORRUPT {} {}: {} problem{}\n", result.kind, result.path, result.corruption.size(),
               result.corruption.size() == 1 ? "" : "s");
    for (const Corruption& corruption : result.corruption) {
      fmt::print("  {}: {}\n", corruption.code, corruption.text());
    }
    return;
  }
  const std::string tensors =
      result.tensors > 0 ? format_count(result.tensors) + " tensors, " : std::string();
  fmt::print("ok {} {}: {}{}, {:.1f} s ({}/s){}; checked: {}\n", result.kind, result.path, tensors,
             format_bytes(result.bytes), timed.seconds,
             format_bytes(static_cast<int64_t>(static_cast<double>(result.bytes) /
                                               std::max(timed.seconds, 1e-3))),
             result.weights ? ", weights " + result.weights->text() : "", result.checked);
}

// As sha256sum prints and checks them.
void print_sums(const FileSums& sums) {
  for (const auto& [file, sum] : sums) fmt::print("{}  {}\n", sum, file.string());
}

nlohmann::ordered_json to_json(const Timed& timed) {
  const Verification& result = timed.result;
  nlohmann::ordered_json corruption = nlohmann::ordered_json::array();
  for (const Corruption& found : result.corruption) {
    corruption.push_back({{"code", fmt::format("{}", found.code)},
                          {"file", found.file},
                          {"part", found.location},
                          {"expected", found.expected},
                          {"found", found.found},
                          {"problem", found.problem},
                          {"mend", found.repair}});
  }
  nlohmann::ordered_json json = {{"kind", result.kind},
                                 {"path", result.path},
                                 {"valid", result.corruption.empty()},
                                 {"checked", result.checked},
                                 {"tensors", result.tensors},
                                 {"bytes", result.bytes},
                                 {"seconds", timed.seconds},
                                 {"damage", corruption}};
  if (result.weights) json["weights"] = result.weights->text();
  if (!result.tensor_digests.empty()) {
    for (const auto& [name, digest] : result.tensor_digests) {
      json["tensor_digests"][name] = digest.text();
    }
  }
  for (const auto& [file, sum] : timed.sums) json["sha256"][file.string()] = sum;
  return json;
}

void record(const Target& target, const Verification& result, int threads) {
  if (target.file || target.receipt || target.kind != ArtifactKind::kModelDirectory) {
    fail(ErrorCode::kBadArgument,
         "--record is for model directories; {} is a {}, which records its digests when it is made",
         target.path.string(), result.kind);
  }
  if (!result.corruption.empty()) return;  // it is told
  record_model_files(target.path, threads);
}

int verify(const Arguments& arguments) {
  po::options_description options(100);
  auto add = options.add_options();
  add("path", po::value<std::vector<std::string>>()->required(), "what to verify");
  add("threads", po::value<int>()->default_value(0), "threads that read and hash; 0 = all");
  add("json", po::bool_switch(), "print JSON, with the digest of every tensor");
  add("record", po::bool_switch(),
      "write down size and digest of every file of a model directory that has no record of them, "
      "as sutor_files.json: from then on it is checked against that");
  add("deep", po::bool_switch(),
      "read every file once more for its SHA-256, to compare copies by: lines as sha256sum prints "
      "and checks them");
  po::positional_options_description positional;
  positional.add("path", -1);
  const auto values = parse_command_line(kHelp, options, positional, arguments);
  if (!values) return kExitOk;
  const bool as_json = (*values)["json"].as<bool>();
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  int exit_code = kExitOk;
  for (const Target& target : targets((*values)["path"].as<std::vector<std::string>>())) {
    const int threads = (*values)["threads"].as<int>();
    Timed timed = verify_timed(target, threads);
    if ((*values)["deep"].as<bool>()) timed.sums = file_sums(target.path, threads);
    if (!timed.result.corruption.empty()) exit_code = kExitData;
    if ((*values)["record"].as<bool>()) record(target, timed.result, threads);
    if (as_json) {
      all.push_back(to_json(timed));
    } else {
      print_text(timed);
      print_sums(timed.sums);
      std::fflush(stdout);
    }
  }
  if (as_json) {
    fmt::print("{}\n", all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  }
  return exit_code;
}

}  // namespace

int verb_verify(const Arguments& arguments) {
  return run_alone([&] { return verify(arguments); });
}

}  // namespace sutor
