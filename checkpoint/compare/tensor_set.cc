#include "checkpoint/compare/tensor_set.h"

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/peft_adapter.h"
#include "checkpoint/files/file_content.h"
#include "checkpoint/huggingface/hf_index.h"
#include "checkpoint/huggingface/stored_bytes.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "checkpoint/store/base_store.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

SetTensor of_entry(const SafetensorsEntry& entry) {
  return {.dtype_name = entry.dtype_name,
          .dtype = entry.dtype,
          .shape = entry.shape,
          .bytes = entry.num_bytes()};
}

// Any bytes of a tensor that gives whole rows.
void read_through_rows(const CheckpointReader& reader, const IndexedTensor& tensor,
                       const StateKind& kind, int64_t offset, std::span<std::byte> into) {
  const int64_t row_bytes = tensor.row_bytes(kind.dtype);
  if (into.empty() || row_bytes == 0) return;
  const int64_t end = offset + static_cast<int64_t>(into.size());
  const int64_t first = offset / row_bytes, last = (end + row_bytes - 1) / row_bytes;
  std::vector<std::byte> rows(static_cast<size_t>((last - first) * row_bytes));
  reader.read(kind.name, {.name = tensor.name,
                          .dtype = kind.dtype,
                          .global_shape = tensor.shape,
                          .row_begin = first,
                          .row_count = last - first,
                          .data = rows.data()});
  const auto from = rows.begin() + (offset - first * row_bytes);
  std::copy(from, from + static_cast<int64_t>(into.size()), into.begin());
}

// Nothing also for a tensor whose shape is not what config.json asks for: that one is compared as
// it is stored.
std::optional<ResolvedSource> source_of(const ModelDirectory& model, const TensorEntry& entry) {
  try {
    return model.resolve(entry);
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Reads bytes of the values of a tensor whose rows are not contiguous on disk: many rows at a time,
// because any row of a transposed tensor costs a read of the whole tensor.
class RowReadBuffer {
 public:
  RowReadBuffer(const ModelDirectory& model, const TensorEntry& entry, DType dtype)
      : model_(model), entry_(entry), dtype_(dtype) {
    rows_.name = entry.name;
    rows_.dtype = dtype;
    rows_.global_shape = entry.shape;
    row_bytes_ = rows_.row_elements() * static_cast<int64_t>(size_of(dtype));
  }

  void read(int64_t offset, std::span<std::byte> into) {
    const std::lock_guard lock(mutex_);
    while (!into.empty()) {
      fetch(offset / row_bytes_);
      const int64_t at = offset - rows_.row_begin * row_bytes_;
      const size_t size = std::min(into.size(), rows_.num_bytes() - static_cast<size_t>(at));
      std::copy_n(bytes_.begin() + at, size, into.begin());
      into = into.subspan(size);
      offset += static_cast<int64_t>(size);
    }
    // A reader that goes from front to back no longer needs it.
    if (offset == entry_.shape[0] * row_bytes_) forget();
  }

 private:
  void fetch(int64_t row) {
    if (row >= rows_.row_begin && row < rows_.row_begin + rows_.row_count) return;
    rows_.row_begin = row;
    rows_.row_count = std::clamp(kReadBufferBytes / row_bytes_, int64_t{1}, entry_.shape[0] - row);
    bytes_.resize(rows_.num_bytes());
    rows_.data = bytes_.data();
    model_.load(entry_, rows_);
  }
  void forget() {
    rows_.row_count = 0;
    std::vector<std::byte>().swap(bytes_);
  }

  const ModelDirectory& model_;
  const TensorEntry& entry_;
  DType dtype_;
  int64_t row_bytes_ = 0;
  std::mutex mutex_;
  ShardedTensor rows_;
  std::vector<std::byte> bytes_;
};

// The slice of a stored tensor that is a model tensor. MXFP4 is given as the numbers that it stands
// for, which bf16 represents exactly.
SetTensor slice_of(const ModelDirectory& model, const TensorEntry& entry,
                   const ResolvedSource& source) {
  const SafetensorsEntry& stored = *source.stored.entry;
  SetTensor slice = of_entry(stored);
  slice.shape = entry.shape;
  if (source.contiguous()) {
    slice.bytes = source.end() - source.begin();
    slice.read = [file = source.stored.file, begin = source.begin()](int64_t offset,
                                                                     std::span<std::byte> into) {
      file->read_at(begin + offset, into);
    };
    return slice;
  }
  if (source.encoding == Encoding::kMxfp4) {
    slice.dtype_name = "MXFP4";
    slice.dtype = DType::kBF16;
  }
  const DType dtype = slice.dtype.value_or(DType::kF32);
  slice.bytes = num_elements(entry.shape) * static_cast<int64_t>(size_of(dtype));
  slice.read = [buffer = std::make_shared<RowReadBuffer>(model, entry, dtype)](
                   int64_t offset, std::span<std::byte> into) { buffer->read(offset, into); };
  return slice;
}

std::string text_of(const ExpertConfig& config) {
  ExpertConfig sorted = config;
  for (auto& [layer, experts] : sorted.experts) std::sort(experts.begin(), experts.end());
  return to_json(sorted);
}

}  // namespace

struct TensorSet::Opened {
  std::unique_ptr<ModelDirectory> model;
  std::unique_ptr<Adapter> adapter;
  std::unique_ptr<SafetensorsFile> peft;
  std::unique_ptr<CheckpointReader> checkpoint;
};

TensorSet::TensorSet(const fs::path& path, ArtifactKind kind, const TensorMap* model)
    : path_(path),
      kind_(kind),
      model_(model),
      opened_(std::make_shared<Opened>()),
      read_bytes_(std::make_shared<std::atomic<int64_t>>(0)) {
  if (is_model()) {
    open_model_tensors();
  } else if (kind == ArtifactKind::kAdapter) {
    open_adapter();
  } else if (kind == ArtifactKind::kPeftAdapter) {
    open_peft_adapter();
  } else if (kind == ArtifactKind::kCheckpoint) {
    open_checkpoint();
  } else {
    fail(ErrorCode::kUnknownArtifact,
         "{} is {}. What can be compared: base stores, directories with config.json, step-* "
         "directories, adapters (expert_cfg.json or adapter_config.json).",
         path.string(), name_of(kind));
  }
}

bool TensorSet::is_model() const {
  return kind_ == ArtifactKind::kBaseStore || kind_ == ArtifactKind::kModelDirectory;
}

void TensorSet::add(const std::string& name, SetTensor tensor) {
  tensor.read = [read = std::move(tensor.read), count = read_bytes_](int64_t offset,
                                                                     std::span<std::byte> into) {
    read(offset, into);
    *count += static_cast<int64_t>(into.size());
  };
  tensors_[name] = std::move(tensor);
}

void TensorSet::open_model_tensors() {
  opened_->model = ::sutor::open_model(path_);
  const bool recorded = kind_ == ArtifactKind::kBaseStore;
  for (const auto& [name, stored] : opened_->model->tensors()) {
    SetTensor tensor = of_entry(*stored.entry);
    if (recorded) tensor.digest = opened_->model->tensor_digests().at(name);
    tensor.read = [stored = stored](int64_t offset, std::span<std::byte> into) {
      stored.file->read(*stored.entry, offset, into);
    };
    add(name, std::move(tensor));
  }
}

void TensorSet::split() {
  if (!is_model() || !model_) return;
  std::set<std::string> taken_apart;
  for (const TensorEntry& entry : model_->entries()) {
    if (opened_->model->find(entry.name)) continue;
    const std::optional<ResolvedSource> source = source_of(*opened_->model, entry);
    if (!source) continue;
    const SafetensorsEntry& stored = *source->stored.entry;
    // A tied embedding is not a slice of a stack, nor is a matrix that has all the bytes.
    const bool whole_matrix =
        source->encoding != Encoding::kPlain && source->encoding != Encoding::kMxfp4;
    if (whole_matrix ||
        (source->contiguous() && source->begin() == stored.begin && source->end() == stored.end)) {
      continue;
    }
    taken_apart.insert(stored.name);
    if (source->scales) taken_apart.insert(source->scales->entry->name);
    add(entry.name, slice_of(*opened_->model, entry, *source));
  }
  for (const std::string& name : taken_apart) tensors_.erase(name);
}

void TensorSet::open_adapter() {
  opened_->adapter = std::make_unique<Adapter>(path_);
  const auto& digests = opened_->adapter->recorded_digests();
  for (const auto& [name, stored] : opened_->adapter->tensors()) {
    SetTensor tensor = of_entry(*stored.entry);
    if (const auto at = digests.find(name); at != digests.end()) tensor.digest = at->second;
    tensor.read = [stored = stored](int64_t offset, std::span<std::byte> into) {
      stored.file->read(*stored.entry, offset, into);
    };
    add(name, std::move(tensor));
  }
}

void TensorSet::open_peft_adapter() {
  const PeftAdapter checked(path_);
  opened_->peft = std::make_unique<SafetensorsFile>(path_ / kPeftWeightsFile);
  for (const SafetensorsEntry& entry : opened_->peft->tensors()) {
    SetTensor tensor = of_entry(entry);
    tensor.read = [file = opened_->peft.get(), &entry](int64_t offset, std::span<std::byte> into) {
      file->read(entry, offset, into);
    };
    add(entry.name, std::move(tensor));
  }
}

void TensorSet::open_checkpoint() {
  opened_->checkpoint = std::make_unique<CheckpointReader>(path_);
  const CheckpointReader* reader = opened_->checkpoint.get();
  for (const IndexedTensor& stored : reader->tensors()) {
    for (const StateKind& kind : reader->optimizer().kinds) {
      const bool is_value = kind.name == reader->optimizer().values;
      SetTensor tensor{.dtype_name = std::string(name_of(kind.dtype)),
                       .dtype = kind.dtype,
                       .shape = stored.shape,
                       .bytes = stored.rows() * stored.row_bytes(kind.dtype),
                       .trained_value = is_value};
      tensor.read = [reader, &stored, &kind](int64_t offset, std::span<std::byte> into) {
        read_through_rows(*reader, stored, kind, offset, into);
      };
      const std::string suffix = is_value ? "" : fmt::format(" ({})", kind.name);
      add(stored.name + suffix, std::move(tensor));
    }
  }
}

std::map<std::string, std::string> TensorSet::other_content() const {
  std::map<std::string, std::string> content;
  if (is_model()) {
    const ModelDirectory& model = *opened_->model;
    const auto* store = dynamic_cast<const BaseStore*>(&model);
    for (const fs::path& file : model.other_files()) {
      // How the tensors are divided into files is not a property of the model.
      if (file == kIndexFile) continue;
      const StoreOtherFile* known = store ? store->manifest().find_file(file.string()) : nullptr;
      content[file.string()] =
          (known ? known->digest : content_digest(InputFile(model.files_root() / file))).text();
    }
  } else if (kind_ == ArtifactKind::kAdapter) {
    content["expert config"] = text_of(opened_->adapter->config());
    const auto base = opened_->adapter->base_digest();
    content["base"] = base ? base->text() : "not recorded";
  } else if (kind_ == ArtifactKind::kPeftAdapter) {
    content[kPeftConfigFile] = content_digest(InputFile(path_ / kPeftConfigFile)).text();
  } else {
    const CheckpointMeta& meta = opened_->checkpoint->meta();
    content = {{"base", meta.base_digest},
               {"plan", meta.plan_digest},
               {"expert config", meta.expert_config.dump()},
               {"optimizer", meta.optimizer.text()}};
    for (const auto& [key, value] : meta.state.items()) content["state: " + key] = value.dump();
  }
  return content;
}

}  // namespace sutor
