// sutor eval: scores of completions.
#include <string>

#include "csrc/base/error.h"
#include "launch/command_line.h"
#include "launch/failure.h"
#include "launch/verbs/eval_completions.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "eval",
    "Scores completions: JSON lines of {\"example\": {\"prompt\", \"raw_prediction\", "
    "\"raw_answers\"}}.",
    "sutor eval --completions FILE --scorer NAME[,NAME]... [--json] [--out FILE]",
    "sutor eval --completions intent.jsonl --scorer intent --json\n"
    "sutor eval --completions summary.jsonl --scorer rouge_l,judge \\\n"
    "  --judge 'python judge.py --model big' --out scored.jsonl"};

po::options_description make_options() {
  po::options_description options(100);
  auto add = options.add_options();
  add("completions", po::value<std::string>()->required(),
      "the file; raw_answers may be a list, of which the best match counts");
  add_scoring_options(options);
  add("json", po::bool_switch(),
      "print {\"mean\", \"scores\"} and nothing else; of several scorers an object of these");
  add("out", po::value<std::string>()->default_value(""),
      "write the rows there with their `score`; of several scorers an object by name");
  return options;
}

}  // namespace

int verb_eval(const Arguments& arguments) {
  return run_alone([&]() -> int {
    const auto values = parse_command_line(kHelp, make_options(), {}, arguments);
    if (!values) return kExitOk;
    return print_scores((*values)["completions"].as<std::string>(), scoring_from(*values),
                        (*values)["json"].as<bool>(), (*values)["out"].as<std::string>());
  });
}

}  // namespace sutor
