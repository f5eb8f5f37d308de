#include "launch/session.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <unordered_set>

#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "csrc/base/profile.h"
#include "launch/metrics_log.h"
#include "layers/lora/lora_params.h"

namespace sutor {
namespace {

Trains trains_in(const std::vector<std::string>& trained) {
  return [names = std::unordered_set<std::string>(trained.begin(), trained.end())](
             const TensorEntry& tensor) { return names.count(tensor.name) > 0; };
}

}  // namespace

Session::Session(const ModelSource& source, Comm& world, const SessionOptions& options)
    : source_(source),
      lora_seed_(options.lora_seed),
      parallel_(options.parallel, source.info, trains_in(options.trained), world,
                options.expert_ranks),
      store_(source.info, options.trained, parallel_, options.dtype, options.decay_matrices_only, options.bucket_elements) {
  if (options.lora_init) lora_init_.emplace(*options.lora_init);
  load_weights();
  model_ = source.family.build(source.directory.config(), store_);
}

void Session::load_weights() {
  const ProfileScope scope("load weights");
  const int64_t before = source_.directory.fetched_bytes();
  std::vector<ShardedTensor> tensors = store_.tensors();
  for (ShardedTensor& pair : store_.lora_tensors()) tensors.push_back(std::move(pair));
  parallel_tasks(at::get_num_threads(), static_cast<int64_t>(tensors.size()),
                 [&](int64_t i) { load_initial(tensors[i]); });
  store_.masters_from_values();
  Comm& world = parallel_.world();
  weight_reads_.of_rank.assign(static_cast<size_t>(world.size()), 0);
  weight_reads_.of_rank[static_cast<size_t>(world.rank())] =
      source_.directory.fetched_bytes() - before;
  world.all_reduce(std::span(weight_reads_.of_rank), ReduceOp::kSum, "weights read");
  for (const auto& [name, stored] : source_.directory.tensors()) {
    weight_reads_.stored += stored.entry->num_bytes();
  }
}

std::string weights_text(const Session& session) {
  const WeightReads& reads = session.weight_reads();
  const auto rank = static_cast<size_t>(session.parallel().world().rank());
  std::string text =
      fmt::format("{} of {} read", format_bytes(reads.of_rank[rank]), format_bytes(reads.stored));
  if (reads.of_rank.size() > 1) {
    const auto [least, most] = std::minmax_element(reads.of_rank.begin(), reads.of_rank.end());
    text +=
        fmt::format(" by this rank ({} to {} a rank)", format_bytes(*least), format_bytes(*most));
  }
  return text + fmt::format(", from a {}", session.source().directory.kind());
}

void Session::load_initial(ShardedTensor& destination) const {
  if (source_.info.tensors.find(destination.name)->role != TensorRole::kLora) {
    source_.load(destination);
  } else if (lora_init_) {
    lora_init_->load(destination);
  } else {
    fill_initial_lora(destination, lora_seed_);
  }
}

void Session::apply(const Overlay& overlay) {
  for (const FlatGroup* group : store_.groups()) SUTOR_ASSERT(group->size() == 0);
  std::vector<ShardedTensor> tensors = store_.tensors();
  parallel_tasks(at::get_num_threads(), static_cast<int64_t>(tensors.size()),
                 [&](int64_t i) { overlay.load(tensors[i]); });
}

at::ScalarType computing_dtype(const std::string& text) {
  const DType dtype = parse_dtype(text);
  if (dtype != DType::kF32 && dtype != DType::kBF16) {
    fail(212, "sutor computes in fp32 or bf16, found `{}`", text);
  }
  return torch_dtype(dtype);
}

Digest base_digest(const ModelSource& source, Comm& world) {
  const ProfileScope scope("base digest");
  Digest digest;
  if (world.rank() == 0) digest = source.digest(at::get_num_threads());
  world.broadcast(std::as_writable_bytes(std::span(&digest, 1)), 0, "base digest");
  return digest;
}

Digest digest_of(const std::vector<ShardedTensor>& tensors) {
  const ProfileScope scope("digests of frozen tensors");
  std::vector<Digest> digests(tensors.size());
  parallel_tasks(at::get_num_threads(), static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    digests[i] = xxh3(std::span<const std::byte>(tensors[i].data, tensors[i].num_bytes()));
  });
  Hasher hasher;
  for (size_t i = 0; i < tensors.size(); ++i) {
    hasher.update(tensors[i].name);
    hasher.update(digests[i].text());
  }
  return hasher.digest();
}

}  // namespace sutor
