#include "launch/plan/plan_fit.h"

#include <fmt/format.h>

#include <charconv>
#include <functional>
#include <utility>
#include <vector>

#include "csrc/base/error.h"
#include "launch/log/metrics_log.h"

namespace sutor {
namespace {

// A recipe with a change, and the ranks that it then takes.
struct Variant {
  std::string change;
  Recipe recipe;
  int world = 1;
};

std::optional<int64_t> need_of(const PlanBasis& basis, const Variant& variant) {
  const PlanBasis changed{.recipe = variant.recipe,
                          .config = basis.config,
                          .family = basis.family,
                          .model = basis.model,
                          .world = variant.world,
                          .threads = basis.threads,
                          .gpu = basis.gpu};
  try {
    return needed_bytes(make_run_plan(changed), variant.recipe, basis.gpu);
  } catch (const Error&) {
    return std::nullopt;  // the change does not go with the model or the layout
  }
}

Variant with(const Variant& from, const std::string& change,
             const std::function<void(Recipe&)>& apply) {
  Variant variant = from;
  variant.change += (variant.change.empty() ? "" : ", ") + change;
  apply(variant.recipe);
  return variant;
}

// As many experts on a rank as before, divided by `factor`; on more ranks where the layout has no
// data-parallel ranks to take.
std::optional<Variant> with_ep(const Variant& from, const ModelInfo& model, int factor) {
  const ParallelOptions& parallel = from.recipe.parallel;
  const int ep = parallel.ep * factor;
  if (model.num_experts % ep != 0) return std::nullopt;
  const int stage = parallel.etp * ep * parallel.pp;
  Variant variant = with(from, fmt::format("parallel.ep: {}", ep),
                         [&](Recipe& recipe) { recipe.parallel.ep = ep; });
  if (from.world % stage != 0) {
    variant.world = from.world * factor;
    variant.change += fmt::format(" on {} ranks", variant.world);
  }
  return variant;
}

std::vector<Variant> single_changes(const Variant& now, const ModelInfo& model) {
  std::vector<Variant> changes;
  for (int64_t n = now.recipe.train.micro_batch / 2; n >= 1; n /= 2) {
    changes.push_back(with(now, fmt::format("train.micro_batch: {}", n),
                           [&](Recipe& recipe) { recipe.train.micro_batch = n; }));
  }
  for (const char* what : {"attention", "layer"}) {
    if (now.recipe.train.recompute != "none") continue;
    changes.push_back(with(now, fmt::format("train.recompute: {}", what),
                           [&](Recipe& recipe) { recipe.train.recompute = what; }));
  }
  if (now.recipe.optim.name == "adamw" && now.recipe.model.dtype == "bf16") {
    changes.push_back(with(now, "optim.name: adamw_bf16",
                           [](Recipe& recipe) { recipe.optim.name = "adamw_bf16"; }));
  }
  if (now.recipe.checkpoint.async) {
    changes.push_back(with(now, "checkpoint.async: false",
                           [](Recipe& recipe) { recipe.checkpoint.async = false; }));
  }
  for (const int factor : {2, 4, 8, 16, 32}) {
    if (const auto variant = with_ep(now, model, factor)) changes.push_back(*variant);
  }
  return changes;
}

std::vector<Variant> combined_changes(const Variant& now, const ModelInfo& model) {
  Variant small = now;
  if (now.recipe.train.micro_batch > 1) {
    small =
        with(small, "train.micro_batch: 1", [](Recipe& recipe) { recipe.train.micro_batch = 1; });
  }
  if (now.recipe.train.recompute != "layer") {
    small = with(small, "train.recompute: layer",
                 [](Recipe& recipe) { recipe.train.recompute = "layer"; });
  }
  std::vector<Variant> changes = {small};
  for (const int factor : {2, 4, 8, 16, 32, 64}) {
    if (const auto variant = with_ep(small, model, factor)) changes.push_back(*variant);
  }
  return changes;
}

}  // namespace

int64_t needed_bytes(const RunPlan& plan, const Recipe& recipe, bool gpu) {
  const RankNeeds& needs = plan.needs();
  const bool copies =
      recipe.checkpoint.async && recipe.checkpoint.every > 0 &&
      plan.data.steps.value_or(recipe.checkpoint.every + 1) > recipe.checkpoint.every;
  return needs.peak + (copies && !gpu ? needs.state_copy : 0);
}

int64_t parse_bytes(const std::string& text, const std::string& option) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(error == std::errc() ? end : text.data());
  while (unit.starts_with(' ')) unit.erase(0, 1);
  static const std::vector<std::pair<std::string, double>> kUnits = {
      {"", 1},     {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
      {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  for (const auto& [name, factor] : kUnits) {
    const double bytes = number * factor;
    if (error == std::errc() && unit == name && bytes >= 1 && bytes < 0x1p62) {
      return static_cast<int64_t>(bytes);
    }
  }
  fail(ErrorCode::kBadArgument, "sutor plan: {} is `{}`; expected bytes, as 24GiB or 80GB", option,
       text);
}

std::optional<Fit> smallest_change(const PlanBasis& basis, int64_t limit) {
  const Variant now{"", basis.recipe, basis.world};
  for (const bool combined : {false, true}) {
    for (const Variant& variant :
         combined ? combined_changes(now, basis.model) : single_changes(now, basis.model)) {
      const auto bytes = need_of(basis, variant);
      if (bytes && *bytes <= limit) return Fit{variant.change, *bytes};
    }
  }
  return std::nullopt;
}

std::string layout_proposal(const PlanBasis& basis, const DeviceMemory& memory) {
  if (basis.recipe.parallel.ep == 1 || !memory.bytes) return "";
  const Variant now{"", basis.recipe, basis.world};
  const Variant alone = with(now, "parallel.ep: 1", [](Recipe& recipe) { recipe.parallel.ep = 1; });
  const auto bytes = need_of(basis, alone);
  if (!bytes || *bytes > *memory.bytes) return "";
  return fmt::format(
      "parallel.ep: 1 fits as well ({} a rank): every rank then has all experts, and exchanges no "
      "rows",
      format_bytes(*bytes));
}

}  // namespace sutor
