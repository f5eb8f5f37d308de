#include "launch/model/session.h"

#include <ATen/Parallel.h>

#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "csrc/base/profile.h"
#include "csrc/comm/nccl/nccl_comm.h"
#include "csrc/ops/device/gpu.h"
#include "launch/job/agreement.h"
#include "launch/job/device_choice.h"
#include "layers/lora/lora_params.h"

namespace sutor {
namespace {

const TrainableSet kNothing;

// Null where the world itself carries the tensors.
std::unique_ptr<Comm> gpu_world(const at::Device& device, Comm& world) {
  if (!device.is_cuda() || world.size() == 1) return nullptr;
  return make_nccl_comm(world, device.index(), {.current_stream = ops::current_gpu_stream});
}

}  // namespace

Session::Session(const ModelSource& source, const ModelInfo& model, const TrainableSet& trainable,
                 Comm& world, const SessionOptions& options)
    : source_(source),
      lora_seed_(options.lora_seed),
      device_text_(options.device_text),
      gpu_world_(gpu_world(options.device, world)),
      parallel_(
          options.parallel, model,
          [&](const TensorEntry& tensor) { return trainable.contains(tensor.name); },
          gpu_world_ ? *gpu_world_ : world, options.expert_ranks),
      store_(model, trainable, parallel_, options.dtype, options.decay_matrices_only,
             options.bucket_elements, options.device) {
  if (options.lora_init) lora_init_.emplace(*options.lora_init);
  load_weights();
  model_ = source.family.build(source.directory.config(), store_);
}

Session::Session(const ModelSource& source, Comm& world, const SessionOptions& options)
    : Session(source, source.info, kNothing, world, options) {}

void Session::load_weights() {
  const ProfileScope scope("load weights");
  const int threads = at::get_num_threads();
  weight_reads_ = sutor::load_weights(source_, parallel_, store_.tensors(), threads);
  const std::vector<ShardValues> pairs = store_.lora_tensors();
  parallel_tasks(threads, static_cast<int64_t>(pairs.size()), [&](int64_t i) {
    fill_in_windows(pairs[static_cast<size_t>(i)],
                    [&](ShardedTensor& window) { load_initial(window); });
  });
}

std::string weights_text(const Session& session) {
  return reads_text(session.weight_reads(), session.parallel().world().rank()) +
         fmt::format(", from a {}", session.source().directory.kind());
}

void Session::load_initial(ShardedTensor& destination) const {
  if (store_.model().tensors.find(destination.name)->role != TensorRole::kLora) {
    source_.load(destination);
  } else if (lora_init_) {
    lora_init_->load(destination);
  } else {
    fill_initial_lora(destination, lora_seed_);
  }
}

void Session::apply(const Overlay& overlay) {
  for (const FlatBuffer* buffer : store_.buffers()) SUTOR_ASSERT(buffer->size() == 0);
  const std::vector<ShardValues> tensors = store_.tensors();
  parallel_tasks(at::get_num_threads(), static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    const ShardValues& shard = tensors[static_cast<size_t>(i)];
    if (!overlay.has(shard.place.name)) return;
    fill_in_windows(shard, [&](ShardedTensor& window) { overlay.load(window); });
  });
}

SessionOptions session_options(const Recipe& recipe, Comm& world) {
  const ChosenDevice chosen = choose_device(recipe.device, world);
  return {.parallel = recipe.parallel,
          .dtype = computing_dtype(recipe.model.dtype),
          .device = chosen.device,
          .device_text = chosen.text};
}

at::ScalarType computing_dtype(const std::string& text) {
  const DType dtype = parse_dtype(text);
  if (dtype != DType::kF32 && dtype != DType::kBF16) {
    fail(ErrorCode::kBadDType, "sutor computes in fp32 or bf16, found `{}`", text);
  }
  return torch_dtype(dtype);
}

Digest base_digest(const ModelSource& source, Comm& world) {
  const ProfileScope scope("base digest");
  const std::string digest = from_rank_0(
      world, "base digest", [&] { return source.digest(at::get_num_threads()).text(); });
  return parse_digest(digest, "base digest");
}

void check_source(const ModelSource& source, Comm& world) {
  on_rank_0(world, "check model", [&] { source.check(at::get_num_threads()); });
}

Digest digest_of(const std::vector<ShardValues>& tensors) {
  const ProfileScope scope("digests of frozen tensors");
  std::vector<Digest> digests(tensors.size());
  parallel_tasks(at::get_num_threads(), static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    Hasher hasher;
    read_in_windows(tensors[static_cast<size_t>(i)], [&](const ShardedTensor& window) {
      hasher.update(std::span<const std::byte>(window.data, window.num_bytes()));
    });
    digests[static_cast<size_t>(i)] = hasher.digest();
  });
  Hasher hasher;
  for (size_t i = 0; i < tensors.size(); ++i) {
    hasher.update(tensors[i].place.name);
    hasher.update(digests[i].text());
  }
  return hasher.digest();
}

}  // namespace sutor
