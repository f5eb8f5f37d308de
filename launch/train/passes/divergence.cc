#include "launch/train/passes/divergence.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace sutor {
namespace {

// Of findings the one with the smallest order is told: weights, then what layers make from the
// bottom up (-1: the embedding), then gradients from the top down.
struct Finding {
  int64_t order = 0;
  std::string text;
  int micro_batch = -1;
};

constexpr int64_t kWeights = 0, kLayers = 1, kGradients = 1'000'000;

bool all_finite(const at::Tensor& values) {
  return !values.defined() || values.numel() == 0 || !at::isFloatingType(values.scalar_type()) ||
         at::isfinite(values).all().item<bool>();
}

// The first of `rows` [n, ...] that has a value which is not finite.
std::optional<int64_t> first_not_finite(const at::Tensor& rows) {
  if (rows.numel() == 0) return std::nullopt;
  const at::Tensor bad =
      at::isfinite(rows.detach()).logical_not().reshape({rows.size(0), -1}).any(1).nonzero();
  if (bad.numel() == 0) return std::nullopt;
  return bad[0].item<int64_t>();
}

std::optional<Finding> in_weights(ParameterStore& store) {
  for (const auto& shards : {store.tensors(), store.lora_tensors()}) {
    for (const ShardValues& shard : shards) {
      if (all_finite(shard.values)) continue;
      return Finding{kWeights, fmt::format("the weight `{}` is not finite", shard.place.name)};
    }
  }
  return std::nullopt;
}

std::optional<Finding> in_gradients(ParameterStore& store) {
  std::optional<Finding> first;
  const ModelInfo& model = store.model();
  for (FlatBuffer* buffer : store.buffers()) {
    const at::Tensor grads = buffer->chunk_grads();
    const std::vector<FlatBuffer::ChunkRows> rows = buffer->chunk_rows();
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t end = i + 1 < rows.size() ? rows[i + 1].offset : buffer->chunk_size();
      if (all_finite(grads.slice(0, rows[i].offset, end))) continue;
      const std::string& name = rows[i].rows.name;
      const TensorEntry* entry = model.tensors.find(name);
      // The backward pass comes from above; what is outside of layers tells least.
      const int layer = entry == nullptr ? -1 : entry->layer;
      const int64_t order = kGradients + model.num_layers - layer;
      if (!first || order < first->order) {
        first = Finding{order, fmt::format("the gradient of `{}` is not finite", name)};
      }
    }
  }
  return first;
}

// Listens to the forward passes of this rank.
class ForwardListener {
 public:
  ForwardListener(int num_layers, std::span<const MicroBatch> micro_batches,
                  const DocumentName& document_name)
      : num_layers_(num_layers), micro_batches_(micro_batches), document_name_(document_name) {}

  void on_routing(int layer, const at::Tensor& topk_idx) {
    routed_layer_ = layer;
    topk_idx_ = topk_idx.cpu();
  }

  void on_rows(const MicroBatch& micro, int layer, const at::Tensor& rows) {
    const int64_t order = kLayers + 1 + layer;
    if (first_ && first_->order <= order) return;
    const std::optional<int64_t> row = first_not_finite(rows);
    if (!row) return;
    const int micro_batch = static_cast<int>(&micro - micro_batches_.data());
    first_ = Finding{order, name_of(layer) + " is the first that is not finite", micro_batch};
    const std::optional<int64_t> token = token_of(micro, layer, *row, rows.size(0));
    if (!token) return;
    const auto& offsets = micro.doc_offsets;
    const auto after = std::upper_bound(offsets.begin(), offsets.end(), *token);
    const int64_t document = after - offsets.begin() - 1;
    first_->text +=
        fmt::format(", at token {} (id {}) of {}", *token - offsets[static_cast<size_t>(document)],
                    micro.ids[static_cast<size_t>(*token)], document_name_(micro_batch, document));
    if (routed_layer_ == layer && topk_idx_.size(0) == rows.size(0)) {
      const at::Tensor experts = topk_idx_[*row].contiguous();
      const std::span<const int64_t> ids(experts.data_ptr<int64_t>(),
                                         static_cast<size_t>(experts.numel()));
      first_->text += fmt::format(", which went to the experts {}", fmt::join(ids, ", "));
    }
  }

  const std::optional<Finding>& first() const { return first_; }

 private:
  std::string name_of(int layer) const {
    if (layer < 0) return "the embedding's output";
    if (layer >= num_layers_) return "the loss, after finite layers,";
    return fmt::format("the output of layer {}", layer);
  }

  // Unknown where this rank has a part of the tokens.
  std::optional<int64_t> token_of(const MicroBatch& micro, int layer, int64_t row,
                                  int64_t rows) const {
    if (layer < num_layers_) {
      return rows == static_cast<int64_t>(micro.ids.size()) ? std::optional(row) : std::nullopt;
    }
    if (rows != micro.supervised) return std::nullopt;
    for (size_t t = 0; t < micro.targets.size(); ++t) {
      if (micro.targets[t] != kNoTarget && row-- == 0) return static_cast<int64_t>(t);
    }
    return std::nullopt;
  }

  const int num_layers_;
  const std::span<const MicroBatch> micro_batches_;
  const DocumentName& document_name_;
  int routed_layer_ = -1;
  at::Tensor topk_idx_;  // int64 [T, K], of the routed layer
  std::optional<Finding> first_;
};

}  // namespace

Divergence find_divergence(Session& session, std::span<const MicroBatch> micro_batches,
                           PipelineOptions options, const DocumentName& document_name) {
  ParameterStore& store = session.store();
  std::optional<Finding> found = in_weights(store);
  const std::optional<Finding> gradient = in_gradients(store);

  ForwardListener listener(store.model().num_layers, micro_batches, document_name);
  options.on_routing = [&](int layer, const at::Tensor& topk_idx, const at::Tensor&,
                           const at::Tensor&) { listener.on_routing(layer, topk_idx); };
  options.on_rows = [&](const MicroBatch& micro, int layer, const at::Tensor& rows) {
    listener.on_rows(micro, layer, rows);
  };
  for (FlatBuffer* buffer : store.buffers()) buffer->zero_grad();
  forward_backward(session.model(), store, micro_batches, options);
  store.finish_reductions();
  if (!found) found = listener.first();
  if (!found) found = gradient;

  // Text that sorts as the orders do.
  Comm& world = session.parallel().world();
  const std::string own = found ? fmt::format("{:08}{}", found->order, found->text) : "";
  const std::vector<std::string> all = world.all_gather_text(own, "what is not finite");
  Divergence divergence;
  const std::string* told = nullptr;
  for (const std::string& text : all) {
    if (!text.empty() && (told == nullptr || text < *told)) told = &text;
  }
  if (told == nullptr) return divergence;
  const int rank = static_cast<int>(told - all.data());
  divergence.place = told->substr(8);
  if (world.size() > 1) divergence.place += fmt::format(" (rank {})", rank);
  if (rank == world.rank()) divergence.micro_batch = found->micro_batch;
  return divergence;
}

}  // namespace sutor
