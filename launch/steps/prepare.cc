#include "launch/steps/prepare.h"

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/store/open_model.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/process/progress.h"
#include "launch/cli/provenance.h"
#include "launch/data/packing_report.h"
#include "launch/data/rows/row_files.h"
#include "launch/data/token_stores.h"
#include "launch/job/python_step.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
#include "launch/model/model_path.h"
#include "recipes/missing_path.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

nlohmann::json job_of(const Recipe& recipe, const DataLook& look, bool strict) {
  const RunPaths paths(recipe.output);
  nlohmann::json sources = nlohmann::json::array(), stores = nlohmann::json::array();
  const auto add = [&](const char* kind, const std::vector<DataSource>& list) {
    for (const DataSource& source : list) {
      stores.push_back({{"kind", kind},
                        {"name", source.name},
                        {"path", token_store_path(recipe, source).string()}});
      if (source.format == "store") continue;  // tokens already
      nlohmann::json& spec =
          sources.emplace_back(nlohmann::json{{"kind", kind},
                                              {"path", source.path},
                                              {"files", row_file_names(source.path)},
                                              {"format", source.format},
                                              {"columns", row_columns(source.columns)},
                                              {"name", source.name},
                                              {"out", paths.tokens(source.name).string()}});
      if (!source.share) continue;
      spec["share"] = *source.share;
      spec["side"] = source.held_out_of.empty() ? "train" : "held_out";
    }
  };
  add("train", recipe.data.train);
  add("eval", recipe.data.eval);
  return {{"model", model_files_root(recipe.model.path).string()},
          {"tokenizer", model_files_root(recipe.data.tokenizer).string()},
          {"template", recipe.data.chat_template},
          {"loss_on", recipe.data.loss_on},
          {"loss_on_thinking", recipe.data.loss_on_thinking},
          {"seq_len", recipe.data.seq_len},
          {"too_long", recipe.data.too_long},
          {"strict", strict},
          {"show", look.show},
          {"ids", look.ids},
          {"workers", recipe.data.workers},
          {"report", look.report ? paths.data_report().string() : ""},
          {"stores", stores},
          {"colour", use_colour(STDOUT_FILENO)},
          {"quiet", progress_is_silent()},
          {"producer", version_text()},
          {"sources", sources}};
}

// The script would not know the place in the recipe. What a glob matches is the script's to say.
void require_rows(const Recipe& recipe, const std::string& list) {
  const auto& sources = list == "data.train" ? recipe.data.train : recipe.data.eval;
  for (size_t i = 0; i < sources.size(); ++i) {
    const std::string& path = sources[i].path;
    if (path.empty() || !row_files(path).empty() || is_there(path)) continue;
    const bool glob = path.find_first_of("*?[") != std::string::npos;
    fail(ErrorCode::kUnreadableData, "{}: {}[{}].path: {}",
         place_of(recipe, fmt::format("{}[{}].path", list, i)), list, i,
         glob ? fmt::format("no file is named like {}", path) : missing_path_text(path, recipe));
  }
}

}  // namespace

int run_prepare(const Recipe& recipe, const DataLook& look, bool strict) {
  if (recipe.data.train.empty() && recipe.data.eval.empty()) require_train_data(recipe);
  // A tokenizer alone is enough here; only what is no folder at all is refused.
  if (!is_folder(recipe.model.path)) require_model_path(recipe);
  for (const char* list : {"data.train", "data.eval"}) require_rows(recipe, list);
  const nlohmann::json job = job_of(recipe, look, strict);
  if (job["sources"].empty()) {
    fmt::print("every set is a token store already\n");
    if (!look.report) return kExitOk;
  }
  // The script replaces what it finds.
  for (const auto& source : job["sources"]) require_plain_file(source["out"].get<std::string>());
  const int status = run_python_step("prepare.py", job);
  if (status != kExitOk) return status;
  if (const std::string packing = packing_text_of(recipe); !packing.empty()) {
    fmt::print("packing  {}\n", packing);
  }
  return status;
}

}  // namespace sutor
