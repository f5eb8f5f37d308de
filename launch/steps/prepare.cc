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
#include "launch/job/python_step.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

nlohmann::json job_of(const Recipe& recipe, int show) {
  const RunPaths paths(recipe.output);
  nlohmann::json sources = nlohmann::json::array();
  const auto add = [&](const char* kind, const std::vector<DataSource>& list) {
    for (const DataSource& source : list) {
      if (source.format == "store") continue;  // tokens already
      sources.push_back({{"kind", kind},
                         {"path", source.path},
                         {"format", source.format},
                         {"name", source.name},
                         {"out", paths.tokens(source.name).string()}});
    }
  };
  add("train", recipe.data.train);
  add("eval", recipe.data.eval);
  return {{"model", model_files_root(recipe.model.path).string()},
          {"tokenizer", model_files_root(recipe.data.tokenizer).string()},
          {"template", recipe.data.chat_template},
          {"loss_on", recipe.data.loss_on},
          {"seq_len", recipe.data.seq_len},
          {"too_long", recipe.data.too_long},
          {"show", show},
          {"colour", use_colour(STDOUT_FILENO)},
          {"producer", version_text()},
          {"sources", sources}};
}

}  // namespace

int run_prepare(const Recipe& recipe, int show) {
  if (recipe.data.train.empty() && recipe.data.eval.empty()) require_train_data(recipe);
  const nlohmann::json job = job_of(recipe, show);
  if (job["sources"].empty()) {
    fmt::print("every set is a token store already\n");
    return kExitOk;
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
