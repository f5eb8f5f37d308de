#include "launch/steps/score.h"

#include <fmt/format.h>

#include "csrc/base/error.h"
#include "launch/cli/provenance.h"
#include "launch/data/token_stores.h"
#include "launch/eval/score_model.h"
#include "launch/eval/score_verdict.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
#include "launch/steps/made_from.h"
#include "layers/esft/score_records.h"

namespace sutor {

void run_score(const Recipe& recipe, const ModelSource& source, Comm& world,
               const std::optional<std::filesystem::path>& records) {
  const RunPaths paths(recipe.output);
  const TokenStores stores(recipe, source.info.vocab_size);
  Session session(source, world, session_options(recipe, world));
  const Digest base = base_digest(source, world);
  const ScoreResult result = score_model(recipe, session, stores.train(), records);
  if (result.tokens == 0) {
    fail(ErrorCode::kNoData, "esft.score.tokens takes no token of the training data");
  }
  if (world.rank() != 0) return;
  std::vector<std::pair<std::string, std::string>> tokens;
  for (size_t i = 0; i < stores.train().size(); ++i) {
    tokens.emplace_back(data_set_name(recipe.data.train[i]), stores.train()[i]->digest().text());
  }
  const MadeFrom made = scores_made_from(recipe, base.text(), tokens);
  write_scores(result.scores,
               {source.info.family, base.text(), result.sample_digest.text(), version_text(),
                nlohmann::json(made).dump()},
               paths.scores(), result.first_half);
  if (records) write_summary(result.scores.table(), *records / "summary.json");
  fmt::print("device   {}\n", session.device_text());
  fmt::print("weights  {}\n", weights_text(session));
  fmt::print("scored {} tokens on {} rank(s) in {:.1f} s: {} layers x {} experts -> {}\n",
             format_count(result.tokens), world.size(), result.seconds,
             result.scores.layers().size(), result.scores.num_experts(), paths.scores().string());
  const auto overlap = half_overlap(result.scores, result.first_half, recipe.esft.select);
  fmt::print("{}\n{}\n{}\n", halves_line(overlap, recipe.esft.select), dead_line(result.scores),
             hot_line(result.scores));
  std::fflush(stdout);
  for (const std::string& warning :
       score_warnings(recipe, source.info, result.scores, overlap, result.tokens)) {
    fmt::print(stderr, "{}\n", warning);
  }
}

}  // namespace sutor
