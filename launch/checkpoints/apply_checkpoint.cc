#include "launch/checkpoints/apply_checkpoint.h"

#include <nlohmann/json.hpp>

#include "launch/job/agreement.h"

namespace sutor {

ChosenCheckpoint choose_for_all(Comm& world, const std::filesystem::path& checkpoints,
                                const std::string& which, WorseThanBase rule) {
  const std::string told = from_rank_0(world, "choose checkpoint", [&] {
    const ChosenCheckpoint chosen = choose_checkpoint(checkpoints, which, rule);
    return nlohmann::json::array({chosen.path.string(), chosen.why}).dump();
  });
  const nlohmann::json chosen = nlohmann::json::parse(told);
  return {chosen[0].get<std::string>(), chosen[1].get<std::string>()};
}

void apply_checkpoint(const ChosenCheckpoint& chosen, Session& session) {
  if (chosen.path.empty()) return;
  const ModelSource& source = session.source();
  Comm& world = session.parallel().world();
  const Overlay trained = source.checkpoint(chosen.path, base_digest(source, world));
  if (world.rank() == 0) warn_of_base_config(trained);
  session.apply(trained);
}

}  // namespace sutor
