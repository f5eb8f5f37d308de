#include "launch/steps/score.h"

#include <fmt/format.h>

#include "csrc/base/error.h"
#include "launch/cli/provenance.h"
#include "launch/data/token_stores.h"
#include "launch/eval/score_model.h"
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
               paths.scores());
  if (records) write_summary(result.scores.table(), *records / "summary.json");
  fmt::print("device   {}\n", session.device_text());
  fmt::print("weights  {}\n", weights_text(session));
  fmt::print("scored {} tokens on {} rank(s) in {:.1f} s: {} layers x {} experts -> {}\n",
             format_count(result.tokens), world.size(), result.seconds,
             result.scores.layers().size(), result.scores.num_experts(), paths.scores().string());
}

}  // namespace sutor
