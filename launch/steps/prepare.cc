#include "launch/steps/prepare.h"

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/store/open_model.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/cli/provenance.h"
#include "launch/data/packing_report.h"
#include "launch/data/rows/row_files.h"
#include "launch/data/token_stores.h"
#include "launch/job/python_step.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
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
          {"producer", version_text()},
          {"sources", sources}};
}

}  // namespace

int run_prepare(const Recipe& recipe, const DataLook& look, bool strict) {
  if (recipe.data.train.empty() && recipe.data.eval.empty()) require_train_data(recipe);
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
