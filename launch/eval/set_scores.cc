#include "launch/eval/set_scores.h"

#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "launch/eval/completion_scores.h"
#include "launch/job/agreement.h"
#include "launch/job/python_step.h"

namespace sutor {

SetScores score_set(const Recipe& recipe, const Session& session, const DataSource& set,
                    const std::filesystem::path& out) {
  SetScores result;
  result.generated = generate_text(recipe, session, {set.path, set.format, set.columns}, out);
  const std::string means =
      from_rank_0(session.parallel().world(), "score completions", [&]() -> std::string {
        ScoringOptions options{.scorers = parse_scorers({*set.scorer})};
        if (recipe.eval.judge) options.judge = *recipe.eval.judge;
        const CompletionScores scores = read_scores(out, options, out);
        if (scores.exit_code != kExitOk) {
          fail(step_error(scores.exit_code), "scoring {} failed, see the message above",
               out.string());
        }
        nlohmann::json found = nlohmann::json::object();
        for (const auto& [scorer, of] : scores.by_scorer.items()) found[scorer] = of.at("mean");
        return found.dump();
      });
  nlohmann::json::parse(means).get_to(result.means);
  return result;
}

}  // namespace sutor
