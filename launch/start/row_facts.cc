#include "launch/start/row_facts.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "launch/data/rows/row_files.h"
#include "launch/job/python_step.h"

namespace sutor {
namespace {

constexpr int kSecondsASet = 10;  // of tokenising

void add(RowFacts& all, const nlohmann::json& set) {
  const auto number = [&](const char* key) { return set.at(key).get<int64_t>(); };
  all.rows += number("rows");
  all.left_out += number("left_out");
  all.looked_at += number("looked_at");
  all.documents += number("documents");
  all.tokens += number("tokens");
  all.supervised += number("supervised");
  const auto length = [&](const char* percent) {
    return set.at("lengths").at(percent).get<int64_t>();
  };
  all.median = std::max(all.median, length("50"));
  all.long_one = std::max(all.long_one, length("99"));
  all.longest = std::max(all.longest, length("100"));
  const auto form = set.at("form").get<std::string>();
  if (std::find(all.forms.begin(), all.forms.end(), form) == all.forms.end()) {
    all.forms.push_back(form);
  }
  const auto held_out = set.at("held_out").get<std::vector<int64_t>>();
  all.held_out.resize(held_out.size());
  for (size_t i = 0; i < held_out.size(); ++i) {
    // A set of which nothing would be held out makes `prepare` fail.
    const bool none = held_out[i] == 0 || all.held_out[i] < 0;
    all.held_out[i] = none ? -1 : all.held_out[i] + held_out[i];
  }
}

}  // namespace

RowFacts read_row_facts(const RowFactsRequest& request) {
  constexpr const char* kScript = "row_facts.py";
  nlohmann::json sources = nlohmann::json::array();
  for (const std::string& path : request.paths) {
    sources.push_back({{"path", path}, {"files", row_file_names(path)}, {"format", "auto"}});
  }
  const PythonOutput output =
      read_python_step(kScript, {{"model", model_files_root(request.model).string()},
                                 {"tokenizer", model_files_root(request.tokenizer).string()},
                                 {"template", request.chat_template},
                                 {"loss_on", request.loss_on},
                                 {"seconds", kSecondsASet},
                                 {"shares", held_out_shares()},
                                 {"sources", sources}});
  if (output.exit_code != kExitOk) {
    fail(step_error(output.exit_code), "the rows cannot be looked at; see the message above");
  }
  RowFacts facts;
  const nlohmann::json printed = printed_json(output, kScript);
  for (const nlohmann::json& set : printed.at("sources")) add(facts, set);
  return facts;
}

}  // namespace sutor
