// Scores existing completions by tools/score.py: the half of `sutor eval` that needs no model.
// Evaluations that generate write a file of completions and score it in the same way.
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

// The scorers of --scorer: splits lists at commas and drops repeats. Throws E0202 for an unknown
// scorer (and names the nearest one), or when none was given.
std::vector<std::string> parse_scorers(const std::vector<std::string>& given);

// Adds --scorer, --tokenize, --judge and --judge-timeout to a verb's options.
void add_scoring_options(boost::program_options::options_description& options);

// Reads them. Throws E0202 for values that are unknown or exclude each other.
ScoringOptions scoring_from(const boost::program_options::variables_map& values);

// Scores a file of completions and prints the result of tools/score.py: with `json` one JSON value,
// else a line per scorer. Writes the rows with their score to `out` unless it is empty. Returns the
// exit code of the script, which prints its own errors: E0331..E0337 a file or row that cannot be
// read, E0360 an answer that the scorer cannot use, E0361 a judge that failed, E0233 one that
// cannot be started.
int print_scores(const std::filesystem::path& completions, const ScoringOptions& options, bool json,
                 const std::filesystem::path& out);

// The same for a caller that uses the scores.
struct CompletionScores {
  int exit_code = 0;         // of the script, which printed its message to stderr unless this is 0
  nlohmann::json by_scorer;  // {scorer: {"mean": number, "scores": [a number per row]}}
};
CompletionScores read_scores(const std::filesystem::path& completions,
                             const ScoringOptions& options, const std::filesystem::path& out);

}  // namespace sutor
