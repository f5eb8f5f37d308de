#include "launch/plan/plan_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "launch/log/metrics_log.h"

namespace sutor {
namespace {

double percent(int64_t part, int64_t all) {
  return all > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0;
}

std::string model_text(const PlanReport& report) {
  const ModelInfo& model = report.plan.training.model;
  const auto moe = std::count(model.moe_layer.begin(), model.moe_layer.end(), true);
  const Recipe& recipe = report.basis.recipe;
  std::string text =
      fmt::format("model    {} {}: {} layers ({} MoE x {} experts, top {}), {} parameters, {}\n",
                  model.family, recipe.model.path, model.num_layers, moe, model.num_experts,
                  model.top_k, format_count(report.plan.parameters), recipe.model.dtype);
  for (const auto& [role, count] : report.plan.classes) {
    text += fmt::format("           {:<15} {:>16} parameters, {} trained ({:.2f}%)\n", role,
                        format_count(count.all), format_count(count.trained),
                        percent(count.trained, count.all));
  }
  return text;
}

std::string trains_text(const RunPlan& plan) {
  const int64_t trained = plan.training.trainable.num_parameters();
  int64_t experts = 0;
  for (const auto& [layer, ids] : plan.training.trainable.experts()) {
    experts += static_cast<int64_t>(ids.size());
  }
  return fmt::format("trains   {}{} of {} parameters ({:.2f}%), {} experts ({})\n",
                     plan.is_estimate ? "about " : "", format_count(trained),
                     format_count(plan.parameters), percent(trained, plan.parameters), experts,
                     plan.selection);
}

std::string layout_text(const PlanReport& report) {
  const RunPlan& plan = report.plan;
  std::string text = fmt::format("layout   {}", plan.layout);
  if (plan.experts_a_rank > 0) {
    text += fmt::format("; a rank has {} experts a layer, and {} trained ones in all",
                        plan.experts_a_rank,
                        plan.trained_least == plan.trained_most
                            ? fmt::format("{}", plan.trained_most)
                            : fmt::format("{} to {}", plan.trained_least, plan.trained_most));
  }
  text += report.basis.gpu ? "; counted for a GPU"
                           : fmt::format("; on the CPU, {} threads", report.basis.threads);
  return text + "\n";
}

std::string needs_text(const RankNeeds& needs, const char* kind) {
  const auto item = [&](ops::MemoryItem of) { return needs.items[static_cast<size_t>(of)]; };
  using Item = ops::MemoryItem;
  return fmt::format(
      "           {:<8} {:>10} = weights {} + gradients {} + master and moments {} + activations "
      "{} + experts' rows {} + logits {}\n",
      kind, format_bytes(needs.peak), format_bytes(item(Item::kWeights)),
      format_bytes(item(Item::kGradients)), format_bytes(item(Item::kOptimizer)),
      format_bytes(item(Item::kActivations)), format_bytes(item(Item::kDispatch)),
      format_bytes(item(Item::kLogits)));
}

std::string memory_text(const PlanReport& report) {
  const RunPlan& plan = report.plan;
  std::string text =
      fmt::format("memory   of tensors, the rank with most (rank {}), {}\n", plan.needs().rank,
                  plan.data.prepared ? "the run's largest micro-batch" : "full micro-batches");
  text += needs_text(plan.level, "level");
  if (plan.skewed) text += needs_text(*plan.skewed, "skewed");
  if (report.basis.recipe.checkpoint.async) {
    text += fmt::format("           a background save copies {} of training state to host memory\n",
                        format_bytes(plan.needs().state_copy));
  }
  if (plan.world > 1) {
    text += fmt::format("           a rank sends {} a step\n",
                        format_bytes(static_cast<int64_t>(plan.needs().sent_bytes)));
  }
  return text;
}

std::string disk_text(const PlanReport& report) {
  const RunPlan& plan = report.plan;
  return fmt::format("disk     a checkpoint takes {}, up to {} lie there at a time: {}; {}\n",
                     format_bytes(plan.checkpoint_bytes), plan.most_checkpoints,
                     format_bytes(plan.checkpoint_bytes * plan.most_checkpoints),
                     report.disk_free ? format_bytes(*report.disk_free) + " free"
                                      : std::string("free space is not known"));
}

std::string data_text(const PlanReport& report) {
  const PlannedData& data = report.plan.data;
  std::string text = "data     " + data.text;
  if (data.prepared) text += fmt::format(", {:.1f}% in the loss", 100 * data.supervised);
  text += "\n";
  if (data.steps) {
    text += fmt::format("steps    {}{} x {} tokens{}", data.prepared ? "" : "about ", *data.steps,
                        format_count(data.tokens_a_step), data.prepared ? "" : " at most");
    if (data.steps_an_epoch) text += fmt::format(", {:.0f} an epoch", *data.steps_an_epoch);
  } else {
    text += "steps    unknown: no training data is here, and schedule.steps is not set";
  }
  text += "\n";
  if (report.rate && data.steps) {
    const double step = report.rate->seconds_a_step(report.plan);
    text += fmt::format("time     {} = {} steps x {:.3g} s ({})\n",
                        format_duration(step * static_cast<double>(*data.steps)), *data.steps, step,
                        report.rate->source);
  } else {
    text += fmt::format(
        "time     unknown: {}; a token takes {:.3g} GFLOP\n",
        report.rate ? "the number of steps is not known"
                    : "no rate was measured (--measured with a run's folder, or tokens a second)",
        report.plan.flops_per_token / 1e9);
  }
  for (const std::string& remark : data.remarks) text += "note     " + remark + "\n";
  return text;
}

std::string check_text(const PlanReport& report) {
  const int64_t needed = needed_bytes(report.plan, report.basis.recipe, report.basis.gpu);
  std::string text;
  if (!report.memory.bytes) {
    text = fmt::format("check    needs {} a rank; {}\n", format_bytes(needed), report.memory.what);
  } else if (report.fits) {
    text = fmt::format("check    fits: {} of {} a rank ({})\n", format_bytes(needed),
                       format_bytes(*report.memory.bytes), report.memory.what);
  } else {
    text = fmt::format("check    does not fit: {} of {} a rank ({})\n", format_bytes(needed),
                       format_bytes(*report.memory.bytes), report.memory.what);
  }
  if (!report.advice.empty()) text += "         " + report.advice + "\n";
  return text;
}

nlohmann::ordered_json json_of(const RankNeeds& needs) {
  nlohmann::ordered_json items;
  for (size_t i = 0; i < ops::kMemoryItems; ++i) {
    items[ops::name_of(static_cast<ops::MemoryItem>(i))] = needs.items[i];
  }
  return {{"rank", needs.rank},
          {"peak_bytes", needs.peak},
          {"items", items},
          {"state_copy_bytes", needs.state_copy},
          {"sent_bytes_a_step", static_cast<int64_t>(needs.sent_bytes)}};
}

}  // namespace

std::string plan_text(const PlanReport& report) {
  return model_text(report) + layout_text(report) + trains_text(report.plan) + memory_text(report) +
         disk_text(report) + data_text(report) + check_text(report);
}

nlohmann::ordered_json plan_json(const PlanReport& report) {
  const RunPlan& plan = report.plan;
  nlohmann::ordered_json json;
  json["model"] = {{"family", plan.training.model.family}, {"parameters", plan.parameters}};
  for (const auto& [role, count] : plan.classes) {
    json["classes"][role] = {{"parameters", count.all}, {"trained", count.trained}};
  }
  json["layout"] = {{"text", plan.layout},
                    {"ranks", plan.world},
                    {"device", report.basis.gpu ? "cuda" : "cpu"},
                    {"dp", plan.dp},
                    {"experts_a_rank", plan.experts_a_rank},
                    {"trained_experts_a_rank", {plan.trained_least, plan.trained_most}}};
  json["trains"] = {{"parameters", plan.training.trainable.num_parameters()},
                    {"selection", plan.selection},
                    {"estimated", plan.is_estimate}};
  json["memory"] = {{"level", json_of(plan.level)}, {"skewed", nullptr}};
  if (plan.skewed) json["memory"]["skewed"] = json_of(*plan.skewed);
  json["memory"]["peak_bytes"] = plan.needs().peak;
  json["memory"]["needed_bytes"] = needed_bytes(plan, report.basis.recipe, report.basis.gpu);
  json["memory"]["limit_bytes"] = nullptr;
  if (report.memory.bytes) json["memory"]["limit_bytes"] = *report.memory.bytes;
  json["memory"]["limit"] = report.memory.what;
  json["disk"] = {{"checkpoint_bytes", plan.checkpoint_bytes},
                  {"checkpoints", plan.most_checkpoints}};
  json["data"] = {{"text", plan.data.text},
                  {"prepared", plan.data.prepared},
                  {"steps", nullptr},
                  {"steps_an_epoch", nullptr},
                  {"tokens_a_step", plan.data.tokens_a_step},
                  {"supervised", plan.data.supervised},
                  {"remarks", plan.data.remarks}};
  if (plan.data.steps) json["data"]["steps"] = *plan.data.steps;
  if (plan.data.steps_an_epoch) json["data"]["steps_an_epoch"] = *plan.data.steps_an_epoch;
  json["flops_per_token"] = plan.flops_per_token;
  json["step_seconds"] = nullptr;
  if (report.rate) json["step_seconds"] = report.rate->seconds_a_step(plan);
  json["fits"] = nullptr;
  if (report.memory.bytes) json["fits"] = report.fits;
  json["advice"] = report.advice;
  return json;
}

}  // namespace sutor
