#include "launch/steps/stage_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "checkpoint/store/open_model.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "launch/data/rows/row_files.h"
#include "launch/data/rows/sha256.h"
#include "launch/data/token_stores.h"
#include "launch/log/run_paths.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kAbsentFile = "absent";  // as tools/sutor_prepare/inputs.py writes it

void worsen(StageCheck& check, Standing standing, std::string reason) {
  check.standing = std::max(check.standing, standing);
  check.reasons.push_back(std::move(reason));
}

void compare(StageCheck& check, const MadeFrom& then, const MadeFrom& now) {
  for (std::string& difference : differences(then, now)) {
    worsen(check, Standing::kStale, std::move(difference));
  }
}

// Where the tokenizer's file and its neighbours lie: tools/sutor_prepare/encode.py.
fs::path tokenizer_file(const Recipe& recipe) {
  const std::string& wanted = recipe.data.tokenizer;
  const fs::path path = model_files_root(wanted == "auto" ? recipe.model.path : wanted);
  std::error_code error;
  const bool folder = wanted == "auto" || fs::is_directory(path, error);
  return folder ? path / "tokenizer.json" : path;
}

std::string share_name(const DataSource& source) {
  return fmt::format("the share of {} in data.eval",
                     source.held_out_of.empty() ? data_set_name(source) : source.held_out_of);
}

std::string share_text(double share) { return share > 0 ? fmt::format("{}", share) : "none"; }

// As tools/sutor_store/source.py writes it.
std::string columns_text(const DataSource& source) {
  return source.columns.empty() ? "" : dump_json(row_columns(source.columns));
}

std::string shown(bool value) { return value ? "true" : "false"; }

std::string rows_name(const DataSource& source) {
  return fmt::format("rows of {} ({})", data_set_name(source), source.path);
}

}  // namespace

const std::string& StageChecks::file_digest(const fs::path& path) {
  const auto known = files_.find(path);
  if (known != files_.end()) return known->second;
  return files_[path] = is_there(path) ? sha256_of_file(path) : std::string(kAbsentFile);
}

// What the store would be made from now, of what it says that it was made from.
MadeFrom StageChecks::inputs_now(const DataSource& source, const TokenStoreInfo& info,
                                 StageCheck& check) {
  MadeFrom now;
  const std::vector<fs::path> files = row_files(source.path);
  if (files.empty()) {
    check.notes.push_back(
        fmt::format("{} are not there any more; the tokens made of them stay "
                    "valid",
                    rows_name(source)));
  } else if (std::all_of(files.begin(), files.end(), is_file)) {
    now[rows_name(source)] = row_files_digest(
        source.path, files, [this](const fs::path& file) { return file_digest(file); });
  }
  now["data.loss_on"] = recipe_.data.loss_on;
  now[share_name(source)] = share_text(source.share.value_or(0));
  now["columns of " + source.path] = columns_text(source);
  if (source.format != "auto") now["format of " + source.path] = source.format;
  if (info.tokenizer_digest.empty()) return now;
  const fs::path tokenizer = tokenizer_file(recipe_);
  if (is_there(tokenizer)) now["tokenizer.json"] = file_digest(tokenizer);
  const fs::path model = model_files_root(recipe_.model.path);
  const fs::path beside = tokenizer.parent_path();
  for (const auto& [name, digest] : made_from(info.inputs)) {
    const size_t slash = name.find('/');
    const std::string role = name.substr(0, slash), file = name.substr(slash + 1);
    if (role == "tokenizer") now[name] = file_digest(beside / file);
    if (role == "model") now[name] = file_digest(model / file);
  }
  now["data.loss_on_thinking"] = shown(recipe_.data.loss_on_thinking);
  const std::string& wanted = recipe_.data.chat_template;
  if (info.template_digest.empty()) return now;
  // Else auto, none, or the name of one of the model's templates.
  const bool is_file = wanted != "auto" && wanted != "none" && is_there(wanted);
  now["data.template"] = is_file ? file_digest(wanted) : wanted;
  return now;
}

void StageChecks::check_store(const DataSource& source, StageCheck& check) {
  if (source.format == "store") return;  // whose rows nobody names
  const fs::path path = token_store_path(recipe_, source);
  if (!is_there(path)) {
    worsen(check, Standing::kAbsent, fmt::format("{} is not there", path.string()));
    return;
  }
  TokenStoreInfo info;
  try {
    const TokenStore store(path);
    info = store.info();
    digests_[path] = store.digest().text();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotTokenStore && error.code() != ErrorCode::kBadTokenStore) {
      throw;
    }
    worsen(check, Standing::kDamaged, error.what());
    return;
  }
  MadeFrom then = made_from(info.inputs);
  then[rows_name(source)] = info.source_digest;
  then["data.loss_on"] = info.options.value("loss_on", "");
  then[share_name(source)] = share_text(info.options.value("share", 0.0));
  then["format of " + source.path] = info.options.value("format", "");
  then["columns of " + source.path] = info.options.value("columns", "");
  then["tokenizer.json"] = info.tokenizer_digest;
  const std::string wanted = info.options.value("template", "");
  // Of an older store the digest is that of the text, which a file may spell in other bytes.
  const bool is_old = !info.inputs.is_object();
  if (wanted == "auto" || wanted == "none" || (!is_old && !then.contains("data.template"))) {
    then["data.template"] = wanted;
  }
  then["data.loss_on_thinking"] = shown(info.options.value("loss_on_thinking", true));
  if (!info.source_digest.starts_with("sha256:")) {
    check.standing = std::max(check.standing, Standing::kUnknown);
    check.notes.push_back(
        fmt::format("{} does not say what it was made from: it cannot be "
                    "compared with the recipe",
                    path.string()));
    then.erase(rows_name(source));
  }
  compare(check, then, inputs_now(source, info, check));
}

// Empty when it is not there or damaged.
std::string StageChecks::store_digest(const fs::path& path) {
  const auto known = digests_.find(path);
  if (known != digests_.end()) return known->second;
  if (!is_there(path)) return "";
  try {
    return digests_[path] = TokenStore(path).digest().text();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kUnreadableData) throw;
    return "";
  }
}

StageCheck StageChecks::tokens(bool train, bool eval) {
  StageCheck check;
  if (train) {
    for (const DataSource& source : recipe_.data.train) check_store(source, check);
  }
  if (eval) {
    for (const DataSource& source : recipe_.data.eval) check_store(source, check);
  }
  return check;
}

StageCheck StageChecks::scores() {
  StageCheck check;
  const fs::path path = RunPaths(recipe_.output).scores();
  if (!is_there(path)) return {Standing::kAbsent, {path.string() + " is not there"}, {}};
  MadeFrom then;
  try {
    const ScoreOrigin origin = read_scores(path).origin;
    then = made_from(nlohmann::json::parse(origin.made_from, nullptr, false));
    // Of an earlier version only this is known.
    if (then.empty()) {
      then["the base model"] = origin.base_digest;
    } else {
      then.emplace("the mix", "each once");  // of a version that knew no other
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotScores) throw;
    return {Standing::kDamaged, {error.what()}, {}};
  }
  if (then.size() == 1) {
    check.standing = Standing::kUnknown;
    check.notes.push_back(
        fmt::format("{} does not say what it was made from: it cannot be "
                    "compared with the recipe",
                    path.string()));
  }
  std::vector<std::pair<std::string, std::string>> stores;
  for (const DataSource& source : recipe_.data.train) {
    const fs::path store = token_store_path(recipe_, source);
    stores.emplace_back(data_set_name(source), store_digest(store));
  }
  MadeFrom now = scores_made_from(recipe_, base_, stores);
  for (const auto& [name, digest] : stores) {
    if (!digest.empty()) continue;
    now.erase("the tokens of " + name);
    check.notes.push_back(
        fmt::format("the tokens of {} are not there, or damaged; the scores made "
                    "of them stay valid",
                    name));
  }
  compare(check, then, now);
  return check;
}

StageCheck StageChecks::expert_config() {
  const RunPaths paths(recipe_.output);
  const fs::path path = paths.expert_config();
  if (!is_there(path)) return {Standing::kAbsent, {path.string() + " is not there"}, {}};
  StageCheck check;
  const ParsedJson parsed = parse_json(read_file(path));
  MadeFrom then;
  if (parsed.value.is_object() && parsed.value.contains("made_from")) {
    then = made_from(parsed.value["made_from"]);
  }
  const bool scores_there = is_there(paths.scores());
  if (then.empty()) {
    // Beside scores that say what they were made from, `select` would have said it as well.
    const bool by_us = scores_there && read_scores(paths.scores()).origin.made_from.empty();
    if (scores_there && !by_us) {
      return {
          Standing::kEdited, {"it carries no record of what made it, as `select` writes it"}, {}};
    }
    check.standing = Standing::kUnknown;
    check.notes.push_back(
        fmt::format("{} does not say what it was made from: it is used as it is", path.string()));
    return check;
  }
  try {
    const std::string changed = changed_record(parsed.value, path.string()).value_or("");
    if (!changed.empty()) return {Standing::kEdited, {changed}, {}};
  } catch (const Error& error) {
    return {Standing::kEdited, {error.what()}, {}};
  }
  MadeFrom now;
  if (scores_there) {
    now = selection_made_from(recipe_.esft.select, read_score_table(paths.scores()));
  } else {
    now = selection_made_from(recipe_.esft.select, {});
    now.erase("the scores");
    check.notes.push_back(
        fmt::format("{} is not there any more; the selection made of it stays "
                    "valid",
                    paths.scores().string()));
  }
  compare(check, then, now);
  return check;
}

void print_notes(const StageCheck& check) {
  for (const std::string& note : check.notes) fmt::print("note: {}\n", note);
}

namespace {

void require(const StageCheck& check, const Recipe& recipe, std::string_view what,
             std::string_view verbs, ErrorCode damaged) {
  print_notes(check);
  if (check.standing == Standing::kDamaged) fail(damaged, "{}", fmt::join(check.reasons, "; "));
  if (check.standing != Standing::kStale) return;
  std::string commands;
  for (size_t begin = 0, end; begin < verbs.size(); begin = end + 1) {
    end = std::min(verbs.find(' ', begin), verbs.size());
    commands += fmt::format("{}`sutor {} {}`", commands.empty() ? "" : ", then ",
                            verbs.substr(begin, end - begin), recipe.file);
  }
  fail(
      ErrorCode::kOtherInputs,
      "{} of {} were made from something else than the recipe says now:\n  {}\nMake them again: {} "
      "(`sutor run` does what is needed); or go back to what they were made from.",
      what, recipe.output, fmt::join(check.reasons, "\n  "), commands);
}

}  // namespace

void require_tokens(StageChecks& checks, const Recipe& recipe, bool train, bool eval) {
  require(checks.tokens(train, eval), recipe, "the tokens", "prepare", ErrorCode::kBadTokenStore);
}

void require_scores(StageChecks& checks, const Recipe& recipe) {
  require(checks.scores(), recipe, "the scores", "score", ErrorCode::kNotScores);
}

void require_expert_config(StageChecks& checks, const Recipe& recipe) {
  const StageCheck scores = checks.scores();
  if (scores.standing == Standing::kStale) {
    require(scores, recipe, "the scores", "score select", ErrorCode::kNotScores);
  }
  const StageCheck config = checks.expert_config();
  require_unedited(config);
  require(config, recipe, "the chosen experts", "select", ErrorCode::kBadExpertConfig);
}

void require_unedited(const StageCheck& config) {
  if (config.standing != Standing::kEdited) return;
  fail(ErrorCode::kOtherInputs,
       "the expert config of the output was edited, or put there, by a person ({}): it is neither "
       "used nor written over. Copy it elsewhere and set esft.config to the copy, to train by it; "
       "or delete it, to have it made again.",
       fmt::join(config.reasons, "; "));
}

}  // namespace sutor
