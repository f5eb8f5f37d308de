#include "launch/checkpoints/unbeaten_base.h"

#include <fmt/format.h>

namespace sutor {

bool larger_is_better(const std::string& metric) {
  const std::string key = metric.substr(metric.rfind('.') + 1);  // all of it without a dot
  return key != "loss" && key != "ppl";
}

bool is_better(const std::string& metric, double value, double than) {
  return larger_is_better(metric) ? value > than : value < than;
}

std::string UnbeatenBase::text() const {
  return fmt::format(
      "no evaluation beat {}: {} was {:.6f} before training and {:.6f} at best (step {})", start,
      metric, base, trained, step);
}

std::optional<UnbeatenBase> unbeaten_base(const nlohmann::json& state) {
  try {
    const nlohmann::json& best = state.at("best");
    UnbeatenBase found{.metric = best.at("metric"),
                       .base = state.at("base").at(best.at("metric").get<std::string>()),
                       .trained = best.at("value"),
                       .step = best.at("step")};
    if (found.step < 1 || is_better(found.metric, found.trained, found.base)) return {};
    if (const auto fork = state.find("fork"); fork != state.end() && fork->is_object()) {
      found.start = fork->at("from").get<std::string>();
    }
    return found;
  } catch (const nlohmann::json::exception&) {
    return {};  // of a program that did not keep them, or of a base without evaluation
  }
}

}  // namespace sutor
