#include "launch/model/overlay.h"

#include <fmt/format.h>

#include <algorithm>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/huggingface/base_config.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "layers/lora/lora_params.h"

namespace sutor {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 20;

// Reads trained values as fp32, which holds those of every optimizer exactly.
void read_values(const CheckpointReader& reader, const ShardedTensor& slice) {
  const StateKind& kind = reader.optimizer().values_kind();
  ShardedTensor stored = slice;
  stored.dtype = kind.dtype;
  std::vector<std::byte> bytes;
  if (kind.dtype != DType::kF32) {
    bytes.resize(stored.num_bytes());
    stored.data = bytes.data();
  }
  reader.read(kind.name, stored);
  if (kind.dtype == DType::kF32) return;
  convert_elements(stored.data, kind.dtype, slice.data, DType::kF32, slice.num_elements());
}

std::vector<TrainedTensor> trained_values(std::shared_ptr<const CheckpointReader> reader) {
  std::vector<TrainedTensor> tensors;
  for (const IndexedTensor& indexed : reader->tensors()) {
    TrainedTensor tensor{.name = indexed.name, .shape = indexed.shape, .dtype = DType::kF32};
    tensor.read = [reader](const ShardedTensor& slice) { read_values(*reader, slice); };
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// rows [n, in] += scale B A, for n rows of B [out, rank].
void add_low_rank(const std::vector<float>& b, const std::vector<float>& a, int64_t rank,
                  int64_t in, double scale, float* rows) {
  for (int64_t r = 0; r * rank < static_cast<int64_t>(b.size()); ++r) {
    for (int64_t k = 0; k < rank; ++k) {
      const float factor = static_cast<float>(scale * b[r * rank + k]);
      for (int64_t i = 0; i < in; ++i) rows[r * in + i] += factor * a[k * in + i];
    }
  }
}

// Pairs of low-rank tensors -> the adapted matrices.
std::vector<TrainedTensor> adapted_matrices(std::vector<TrainedTensor> pairs, double scale,
                                            const std::function<void(ShardedTensor&)>& load_base) {
  std::map<std::string, TrainedTensor> by_name;
  for (TrainedTensor& pair : pairs) by_name[pair.name] = std::move(pair);
  std::vector<TrainedTensor> matrices;
  for (const auto& [name, a] : by_name) {
    const std::string weight = weight_of_lora(name);
    if (weight.empty() || name != lora_name(weight, 'A')) continue;
    const TrainedTensor b = by_name.at(lora_name(weight, 'B'));
    TrainedTensor matrix{.name = weight, .shape = {b.shape[0], a.shape[1]}, .dtype = DType::kF32};
    matrix.read = [a = a, b, scale, load_base](const ShardedTensor& slice) {
      ShardedTensor base = slice;
      load_base(base);
      const int64_t rank = a.shape[0], columns = slice.columns();
      std::vector<float> a_values(static_cast<size_t>(rank * columns));
      std::vector<float> b_values(static_cast<size_t>(slice.row_count * rank));
      ShardedTensor a_slice = a.rows(0, rank, reinterpret_cast<std::byte*>(a_values.data()));
      a_slice.col_begin = slice.col_begin;
      a_slice.col_count = columns;
      a.read(a_slice);
      b.read(
          b.rows(slice.row_begin, slice.row_count, reinterpret_cast<std::byte*>(b_values.data())));
      add_low_rank(b_values, a_values, rank, columns, scale, reinterpret_cast<float*>(slice.data));
    };
    matrices.push_back(std::move(matrix));
  }
  return matrices;
}

}  // namespace

Overlay::Overlay(std::string name, ExpertConfig config, std::vector<TrainedTensor> tensors)
    : name_(std::move(name)), config_(std::move(config)), tensors_(std::move(tensors)) {
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_[tensors_[i].name] = i;
}

bool Overlay::load(const ShardedTensor& destination) const {
  const auto found = by_name_.find(destination.name);
  if (found == by_name_.end()) return false;
  const TrainedTensor& tensor = tensors_[found->second];
  if (tensor.shape != destination.global_shape) {
    fail(ErrorCode::kWrongShape, "{}: tensor `{}` has shape {}, the model asks for {}", name_,
         tensor.name, shape_text(tensor.shape), shape_text(destination.global_shape));
  }
  if (tensor.dtype == destination.dtype) {
    tensor.read(destination);
    return true;
  }
  const int64_t columns = destination.columns();
  const auto from_size = static_cast<int64_t>(size_of(tensor.dtype));
  const auto to_size = static_cast<int64_t>(size_of(destination.dtype));
  const int64_t rows_at_once =
      std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, columns * from_size));
  std::vector<std::byte> values;
  ShardedTensor slice = destination;
  slice.dtype = tensor.dtype;
  for (int64_t done = 0; done < destination.row_count; done += rows_at_once) {
    slice.row_begin = destination.row_begin + done;
    slice.row_count = std::min(rows_at_once, destination.row_count - done);
    values.resize(slice.num_bytes());
    slice.data = values.data();
    tensor.read(slice);
    convert_elements(values.data(), tensor.dtype, destination.data + done * columns * to_size,
                     destination.dtype, slice.num_elements());
  }
  return true;
}

Digest Overlay::digest() const {
  Hasher hasher;
  for (const auto& [name, digest] : stored_digests(tensors_)) {
    hasher.update(name);
    hasher.update(digest.text());
  }
  return hasher.digest();
}

void Overlay::check_base(const Digest& base, const std::string& base_name) const {
  if (adapter_) adapter_->check_base(base, base_name);
}

std::set<int64_t> Overlay::end_tokens() const {
  return adapter_ ? adapter_->end_tokens() : std::set<int64_t>{};
}

bool Overlay::lacks_base_config() const {
  return base_config_.is_null() && (!adapter_ || adapter_->base_digest());
}

void Overlay::check_content(int threads) const {
  if (adapter_) adapter_->check_content(threads);
}

void warn_of_base_config(const Overlay& overlay) {
  if (overlay.lacks_base_config()) warn_of_base_config(overlay.name());
}

void warn_of_base_config(const std::string& trained) {
  fmt::print(stderr,
             "warning[{}]: {} is of an older program and does not record the config.json of its "
             "base: whether that has changed cannot be told\n",
             WarningCode::kNoDigest, trained);
}

Overlay Overlay::of_adapter(const std::filesystem::path& path, const ModelDirectory& directory,
                            const ModelInfo& model) {
  auto adapter = std::make_shared<const Adapter>(path);
  adapter->check_tensors(model.tensors, directory.path().string());
  std::vector<TrainedTensor> tensors = adapter->trained_tensors();
  std::vector<TrainedTensor> checked = tensors;
  store_as_base(checked, directory, model.tensors);
  for (TrainedTensor& tensor : tensors) {
    tensor.read = [adapter, read = tensor.read](const ShardedTensor& slice) { read(slice); };
  }
  Overlay overlay(path.string(), adapter->config(), std::move(tensors));
  overlay.base_config_ = adapter->base_config();
  overlay.adapter_ = std::move(adapter);
  check_base_config(overlay.base_config_, directory.config(), overlay.name_,
                    directory.path().string());
  return overlay;
}

Overlay Overlay::of_checkpoint(const std::filesystem::path& path, const std::string& base_digest,
                               const std::function<void(ShardedTensor&)>& load_base) {
  auto reader = std::make_shared<const CheckpointReader>(path);
  if (reader->meta().base_digest != base_digest) {
    fail(ErrorCode::kOtherBase, "{} was trained on base {}, but the model here is {}",
         path.string(), reader->meta().base_digest, base_digest);
  }
  const nlohmann::json& base_config = reader->meta().base_config;
  const nlohmann::json lora = reader->meta().state.value("lora", nlohmann::json());
  std::vector<TrainedTensor> tensors = trained_values(reader);
  const ExpertConfig config = parse_expert_config(reader->meta().expert_config, path.string());
  if (!lora.is_object()) {
    Overlay overlay(path.string(), config, std::move(tensors));
    overlay.base_config_ = base_config;
    return overlay;
  }
  const PeftOptions options{.rank = lora.at("rank"), .alpha = lora.at("alpha")};
  Overlay overlay(path.string(), config,
                  adapted_matrices(tensors, options.alpha / options.rank, load_base));
  overlay.base_config_ = base_config;
  overlay.pairs_ = std::move(tensors);
  overlay.lora_ = options;
  return overlay;
}

std::vector<TrainedTensor> merged_tensors(const std::vector<const Overlay*>& overlays) {
  std::map<std::string, TrainedTensor> by_name;
  for (const Overlay* overlay : overlays) {
    for (const TrainedTensor& tensor : overlay->tensors()) by_name[tensor.name] = tensor;
  }
  std::vector<TrainedTensor> tensors;
  for (auto& [name, tensor] : by_name) tensors.push_back(std::move(tensor));
  return tensors;
}

ExpertConfig merged_config(const std::vector<const Overlay*>& overlays) {
  ExpertConfig config;
  for (const Overlay* overlay : overlays) {
    for (const auto& [layer, ids] : overlay->config().experts) {
      std::vector<int>& all = config.experts[layer];
      for (const int id : ids) {
        if (std::find(all.begin(), all.end(), id) == all.end()) all.push_back(id);
      }
    }
    config.shared_experts |= overlay->config().shared_experts;
    config.non_expert_modules |= overlay->config().non_expert_modules;
  }
  return config;
}

}  // namespace sutor
