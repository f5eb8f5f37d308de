#include "launch/eval/completion_scores.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "csrc/base/error.h"
#include "csrc/base/text/nearest.h"
#include "csrc/base/text/text.h"
#include "launch/job/python_step.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr const char* kScript = "score.py";
const std::vector<std::string> kScorers = {"intent", "exact", "numeric", "rouge_l",
                                           "bleu",   "chrf",  "judge"};

void check_known(const char* option, const std::string& given,
                 const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), given) != known.end()) return;
  fail(ErrorCode::kBadArgument, "--{} {}: unknown (did you mean `{}`?). Known: {}", option, given,
       nearest(given, known), fmt::join(known, ", "));
}

nlohmann::json job_of(const std::filesystem::path& completions, const ScoringOptions& options,
                      bool json, const std::filesystem::path& out) {
  return {{"completions", completions.string()},
          {"scorers", options.scorers},
          {"tokenize", options.tokenize},
          {"judge", options.judge},
          {"judge_seconds", options.judge_seconds},
          {"json", json},
          {"out", out.string()}};
}

}  // namespace

std::vector<std::string> parse_scorers(const std::vector<std::string>& given) {
  std::vector<std::string> scorers;
  for (const std::string& list : given) {
    for (const std::string& name : split_at_commas(list)) {
      check_known("scorer", name, kScorers);
      if (std::find(scorers.begin(), scorers.end(), name) == scorers.end()) scorers.push_back(name);
    }
  }
  if (scorers.empty()) {
    fail(ErrorCode::kBadArgument, "give --scorer. Known: {}", fmt::join(kScorers, ", "));
  }
  return scorers;
}

void add_scoring_options(po::options_description& options) {
  const ScoringOptions defaults;
  auto add = options.add_options();
  add("scorer", po::value<std::vector<std::string>>()->composing(),
      "intent, exact, numeric, rouge_l, bleu, chrf or judge; several: a,b or repeated");
  add("tokenize", po::value<std::string>()->default_value(defaults.tokenize),
      "words of rouge_l and bleu: cjk (characters), words, or auto: by the answers of each row");
  add("judge", po::value<std::string>(),
      "command line of the scorer judge: it reads a JSON object a line (prompt, raw_prediction, "
      "raw_answers) and prints a score from 0 to 1 for each");
  add("judge-timeout", po::value<double>()->default_value(defaults.judge_seconds),
      "seconds that the judge may take for all completions");
}

ScoringOptions scoring_from(const po::variables_map& values) {
  ScoringOptions options;
  if (values.count("scorer")) {
    options.scorers = parse_scorers(values["scorer"].as<std::vector<std::string>>());
  } else {
    parse_scorers({});
  }
  options.tokenize = values["tokenize"].as<std::string>();
  check_known("tokenize", options.tokenize, {"auto", "words", "cjk"});
  if (values.count("judge")) options.judge = values["judge"].as<std::string>();
  options.judge_seconds = values["judge-timeout"].as<double>();
  const bool judged =
      std::find(options.scorers.begin(), options.scorers.end(), "judge") != options.scorers.end();
  if (judged && options.judge.empty()) {
    fail(ErrorCode::kBadArgument, "--scorer judge needs --judge 'command line'");
  }
  if (!judged && !options.judge.empty()) {
    fail(ErrorCode::kBadArgument, "--judge is used by --scorer judge only");
  }
  if (!(options.judge_seconds > 0)) {
    fail(ErrorCode::kBadArgument, "--judge-timeout {}: give seconds above 0",
         options.judge_seconds);
  }
  return options;
}

int print_scores(const std::filesystem::path& completions, const ScoringOptions& options, bool json,
                 const std::filesystem::path& out) {
  return run_python_step(kScript, job_of(completions, options, json, out));
}

CompletionScores read_scores(const std::filesystem::path& completions,
                             const ScoringOptions& options, const std::filesystem::path& out) {
  const PythonOutput output = read_python_step(kScript, job_of(completions, options, true, out));
  CompletionScores scores{output.exit_code, {}};
  if (scores.exit_code != kExitOk) return scores;
  nlohmann::json printed = printed_json(output, kScript);
  if (options.scorers.size() == 1) printed = {{options.scorers[0], printed}};
  scores.by_scorer = std::move(printed);
  return scores;
}

}  // namespace sutor
