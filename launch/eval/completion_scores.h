// Scoring completions that are there already, by tools/score.py: the half of `sutor eval` that
// needs no model. Evaluations that generate write a file of completions and score it in the same
// way.
#pragma once

#include <boost/program_options.hpp>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace sutor {

// How completions are scored.
struct ScoringOptions {
  std::vector<std::string> scorers;  // intent, exact, numeric, rouge_l, bleu, chrf, judge
  std::string tokenize = "auto";     // words of ROUGE and BLEU: auto, words, cjk
  std::string judge;                 // command line of the scorer `judge`
  double judge_seconds = 3600;       // for all completions
};

// What --scorer gave, lists taken apart at commas and repeats dropped. Throws E0202 for a scorer
// that is not known (the nearest is named) or when none was given.
std::vector<std::string> parse_scorers(const std::vector<std::string>& given);

// Adds --scorer, --tokenize, --judge and --judge-timeout to a verb's options.
void add_scoring_options(boost::program_options::options_description& options);

// Reads them. Throws E0202 for values that do not go together or are not known.
ScoringOptions scoring_from(const boost::program_options::variables_map& values);

// Scores a file of completions and prints what tools/score.py says: with `json` one JSON value,
// else a line a scorer. `out` (unless empty) gets the rows with their score. Returns the exit code
// of the script, which prints its own errors: E0331..E0337 a file or row that cannot be read, E0360
// an answer that the scorer cannot use, E0361 a judge that failed, E0233 one that cannot be
// started.
int print_scores(const std::filesystem::path& completions, const ScoringOptions& options, bool json,
                 const std::filesystem::path& out);

// The same for a caller that goes on with the scores.
struct CompletionScores {
  int exit_code = 0;         // of the script; when it is not 0 the message is on stderr already
  nlohmann::json by_scorer;  // {scorer: {"mean": number, "scores": [number a row]}}
};
CompletionScores read_scores(const std::filesystem::path& completions,
                             const ScoringOptions& options, const std::filesystem::path& out);

}  // namespace sutor
