#include "launch/train/losses/balance_loss.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "csrc/base/profile.h"
#include "csrc/ops/number_counts.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

struct Decision {
  BalanceOver over;
  std::string reason;
};

Decision decide(const Recipe& recipe, const nlohmann::json& model_config) {
  const std::string& wanted = recipe.train.balance_over;
  if (wanted != "auto") {
    return {wanted == "sequences" ? BalanceOver::kSequences : BalanceOver::kBatch,
            "train.balance_over"};
  }
  const auto said = model_config.find("seq_aux");
  if (said != model_config.end() && said->is_boolean()) {
    const bool sequences = said->get<bool>();
    return {sequences ? BalanceOver::kSequences : BalanceOver::kBatch,
            fmt::format("seq_aux: {} of config.json", sequences)};
  }
  const std::string family = model_config.value("model_type", "");
  if (family == "deepseek_v2" || family == "deepseek_v3" || family == "kimi_k2") {
    return {BalanceOver::kSequences, "seq_aux of " + family + " unless config.json says otherwise"};
  }
  return {BalanceOver::kBatch, "config.json has no seq_aux"};
}

}  // namespace

BalanceOver balance_over(const Recipe& recipe, const nlohmann::json& model_config) {
  return decide(recipe, model_config).over;
}

std::string balance_text(const Recipe& recipe, const nlohmann::json& model_config) {
  const Decision decision = decide(recipe, model_config);
  const bool sequences = decision.over == BalanceOver::kSequences;
  return fmt::format("{} x the load-balance loss, {} ({})", recipe.train.balance_loss,
                     sequences ? "a mean over sequences" : "over the global batch",
                     decision.reason);
}

at::Tensor count_assignments(const CausalModel& model, const ModelInfo& info,
                             std::span<const MicroBatch> micro_batches) {
  const ProfileScope scope("counts of the load-balance loss");
  const ParallelState& parallel = model.parallel();
  const at::Tensor counts = at::zeros({info.num_layers, info.num_experts},
                                      at::TensorOptions().dtype(at::kLong).device(model.device()));
  for (const MicroBatch& micro_batch : micro_batches) {
    const PackedBatch batch =
        make_context_batch(micro_batch.ids, micro_batch.doc_offsets, parallel.cp(), model.device());
    ForwardContext context{.batch = batch};
    context.on_routing = [&](int layer, const at::Tensor& topk_idx, const at::Tensor&,
                             const at::Tensor&) {
      counts[layer].add_(ops::number_counts(topk_idx, info.num_experts));
    };
    model.hidden_states(context);
  }
  reduce_in_place(counts, ReduceOp::kSum, parallel.world(), "balance loss");
  return counts;
}

}  // namespace sutor
