#include "launch/model/unbeaten_base.h"

#include <fmt/format.h>

namespace sutor {

bool is_better(const std::string& metric, double value, double than) {
  const bool larger = metric.ends_with("token_acc") || metric.ends_with("exact_match");
  return larger ? value > than : value < than;
}

std::string UnbeatenBase::text() const {
  return fmt::format(
      "no evaluation beat the base: {} was {:.6f} before training and {:.6f} at best (step {})",
      metric, base, trained, step);
}

std::optional<UnbeatenBase> unbeaten_base(const nlohmann::json& state) {
  try {
    const nlohmann::json& best = state.at("best");
    const UnbeatenBase found{.metric = best.at("metric"),
                             .base = state.at("base").at(best.at("metric").get<std::string>()),
                             .trained = best.at("value"),
                             .step = best.at("step")};
    if (found.step < 1 || is_better(found.metric, found.trained, found.base)) return {};
    return found;
  } catch (const nlohmann::json::exception&) {
    return {};  // of a program that did not keep them, or of a base without evaluation
  }
}

}  // namespace sutor
