#include "launch/plan/dry_run.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <optional>

#include "csrc/ops/device/planned_device.h"
#include "csrc/ops/shapes/library_scratch.h"
#include "csrc/ops/shapes/shapes.h"
#include "launch/model/session.h"
#include "launch/plan/planned_comm.h"
#include "launch/train/losses/balance_loss.h"
#include "launch/train/passes/pipeline_runner.h"
#include "layers/blocks/head_loss.h"
#include "layers/optim/gradient_clip.h"
#include "layers/optim/optimizer.h"
#include "layers/parallel/stage_exchange.h"

namespace sutor {
namespace {

void prepare_once() {
  static const bool done = [] {
    ops::install_shape_allocator();
    ops::shapes::register_torch_shapes();
    return true;
  }();
  static_cast<void>(done);
}

// Numbers on the host and scalars that a step reads, beside the tensors of the dry run.
constexpr int64_t kScalars = 16 << 10;

BalanceTerms balance_of(const DryRunInput& input, const ModelInfo& model) {
  BalanceTerms terms{.weight = input.recipe.train.balance_loss};
  if (terms.weight == 0) return terms;
  terms.over = balance_over(input.recipe, input.config);
  for (const MicroBatch& batch : input.train) {
    terms.tokens += static_cast<int64_t>(batch.ids.size());
    terms.sequences += static_cast<int64_t>(batch.doc_offsets.size()) - 1;
  }
  if (terms.over == BalanceOver::kBatch && input.train.size() > 1) {
    terms.counts = at::zeros({model.num_layers, model.num_experts},
                             at::TensorOptions().dtype(at::kLong).device(at::kMeta));
  }
  return terms;
}

void step(const DryRunInput& input, const CausalModel& model, ParameterStore& store,
          Optimizer& optimizer) {
  PipelineOptions options{.lowest_layer = input.plan.trainable.lowest_layer(),
                          .recompute = parse_recompute(input.recipe.train.recompute)};
  options.balance = balance_of(input, input.plan.model);
  const size_t sources = input.recipe.data.train.size();
  options.sources = sources > 1 ? static_cast<int64_t>(sources) : 0;
  const std::vector<FlatBuffer*> buffers = store.buffers();
  forward_backward(model, store, input.train, options);
  store.finish_reductions();
  squared_gradients(buffers);
  clip_gradients(buffers, 2 * input.recipe.optim.clip + 1, input.recipe.optim.clip);
  optimizer.step(input.recipe.optim.lr, 1);
  for (FlatBuffer* buffer : buffers) buffer->gather_values();
}

// `input.eval`, one after the other.
void evaluate_once(const DryRunInput& input, const CausalModel& model) {
  for (const MicroBatch& batch : input.eval) {
    const PackedBatch packed =
        make_context_batch(batch.ids, batch.doc_offsets, model.parallel().cp(), model.device());
    ForwardContext context{.batch = packed};
    const at::Tensor hidden = model.hidden_states(context);
    if (!model.parallel().is_last_stage()) continue;
    head_loss(hidden, own_values(packed, batch.targets), model.head(), model.tensor_parallel(), 1.0,
              /*gradient=*/false);
  }
}

// The rows that a stage has sent may still be there while it computes those of the next batch.
void evaluate(const DryRunInput& input, const CausalModel& model) {
  evaluate_once(input, model);
  if (model.parallel().pp().size() > 1) evaluate_once(input, model);
}

}  // namespace

RankNeeds dry_run(const DryRunInput& input, int rank) {
  prepare_once();
  const RankLayout layout(input.recipe.parallel, input.world);
  PlannedTraffic traffic;
  const std::unique_ptr<Comm> world = make_planned_comm(layout, rank, input.peer_tokens, traffic);
  const TrainPlan& plan = input.plan;
  const int64_t before = ops::memory_use(at::kCPU).allocated;
  const ParallelState parallel(
      input.recipe.parallel, plan.model,
      [&](const TensorEntry& tensor) { return plan.trainable.contains(tensor.name); }, *world,
      input.expert_ranks);
  ParameterStore store(plan.model, plan.trainable, parallel,
                       computing_dtype(input.recipe.model.dtype),
                       input.recipe.optim.decay == "matrices", kBucketElements, at::kMeta);
  const std::unique_ptr<CausalModel> model = input.family.build(input.config, store);
  const std::unique_ptr<Optimizer> optimizer =
      make_optimizer(input.recipe.optim, input.recipe.train.seed, store.buffers());

  RankNeeds needs{.rank = rank};
  needs.optimizer = optimizer->bytes();
  for (const FlatBuffer* buffer : store.buffers()) {
    needs.gradients += buffer->num_elements() * 4;
  }
  needs.weights = ops::memory_use(at::kCPU).allocated - before - needs.optimizer - needs.gradients;
  for (const StateKind& kind : optimizer->declared().kinds) {
    for (const ShardValues& rows : optimizer->state(kind.name)) {
      needs.state_copy += static_cast<int64_t>(rows.values.nbytes());
    }
  }
  std::optional<ops::shapes::LibraryScratch> scratch;
  if (!ops::is_planned_for_gpu()) scratch.emplace();
  ops::plan_routing(input.shares);
  ops::reset_peak();
  traffic.bytes = 0;
  ops::take_attention_products();
  step(input, *model, store, *optimizer);
  needs.sent_bytes = traffic.bytes;
  needs.attention_products = ops::take_attention_products();
  evaluate(input, *model);
  needs.peak = ops::memory_use(at::kCPU).peak - before + kScalars;
  needs.items = ops::items_of_peak();
  needs.items[static_cast<size_t>(ops::MemoryItem::kActivations)] += kScalars;
  ops::plan_routing({});
  return needs;
}

}  // namespace sutor
