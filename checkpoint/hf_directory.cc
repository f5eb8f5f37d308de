#include "checkpoint/hf_directory.h"

#include <algorithm>
#include <set>

#include "checkpoint/hf_index.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// Large enough for the disk, small enough to stay in a core's cache while it is hashed or
// converted.
constexpr size_t kPieceBytes = size_t{1} << 20;

std::string text_of(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

int64_t elements_of(const std::vector<int64_t>& shape, size_t first_axis) {
  int64_t count = 1;
  for (size_t axis = first_axis; axis < shape.size(); ++axis) count *= shape[axis];
  return count;
}

// Where in the stored tensor the model tensor lies.
void locate(const TensorEntry& tensor, const DiskSource& source, ResolvedSource& found) {
  const SafetensorsEntry& entry = *found.stored.entry;
  const std::vector<int64_t>& expected =
      source.disk_shape.empty() ? tensor.shape : source.disk_shape;
  if (entry.shape != expected) {
    fail(302,
         "{}: tensor `{}` has shape {}, but config.json asks for {}. Are these the weights of this "
         "config.json?",
         found.stored.file->path().string(), entry.name, text_of(entry.shape), text_of(expected));
  }
  const bool sliced = source.index >= 0;
  const std::vector<int64_t> slice(expected.begin() + (sliced ? 1 : 0), expected.end());
  const int64_t row_elements = elements_of(tensor.shape, 1);
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  const int64_t slice_rows = slice.empty() ? 1 : slice[0];
  SUTOR_ASSERT(!sliced || source.index < expected[0]);
  SUTOR_ASSERT(elements_of(slice, 1) == row_elements && source.row_begin + rows <= slice_rows);
  const int64_t elements = entry.num_elements();
  const int64_t element_bytes = elements == 0 ? 0 : entry.num_bytes() / elements;
  const int64_t first_row = (sliced ? source.index * slice_rows : 0) + source.row_begin;
  found.begin = entry.begin + first_row * row_elements * element_bytes;
  found.end = found.begin + rows * row_elements * element_bytes;
}

DType computable(const StoredTensor& stored) {
  const std::optional<DType> dtype = stored.entry->dtype;
  if (dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16) return *dtype;
  fail(307,
       "{}: tensor `{}` is {}; sutor computes with F32, BF16 and F16 weights. Convert the "
       "checkpoint "
       "to one of them first.",
       stored.file->path().string(), stored.entry->name, stored.entry->dtype_name);
}

}  // namespace

DType config_dtype(const nlohmann::json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto at = config.find(key);
    if (at == config.end() || at->is_null()) continue;
    if (*at == "float32") return DType::kF32;
    if (*at == "bfloat16") return DType::kBF16;
    if (*at == "float16") return DType::kF16;
    fail(307, "config.json: `{}` is {}; expected \"float32\", \"bfloat16\" or \"float16\"", key,
         at->dump());
  }
  return DType::kF32;
}

HfDirectory::HfDirectory(const fs::path& path) : path_(path) {
  read_config();
  if (fs::exists(path_ / kSingleWeightsFile)) {
    open_single();
  } else if (fs::exists(path_ / kIndexFile)) {
    open_sharded();
  } else {
    const bool pickled = fs::exists(path_ / "pytorch_model.bin") ||
                         fs::exists(path_ / "pytorch_model.bin.index.json");
    fail(301, "{} holds neither {} nor {}.{}", path_.string(), kSingleWeightsFile, kIndexFile,
         pickled ? " Its pytorch_model.bin files are not read: save the model as safetensors first."
                 : "");
  }
}

void HfDirectory::read_config() {
  const fs::path file = path_ / "config.json";
  if (!fs::is_directory(path_)) fail(300, "{} is not a directory", path_.string());
  if (!fs::exists(file)) {
    fail(300, "{} is no model directory: it has no config.json", path_.string());
  }
  config_text_ = read_file(file, int64_t{64} << 20);
  config_ = nlohmann::json::parse(config_text_, nullptr, /*allow_exceptions=*/false);
  if (!config_.is_object()) fail(300, "{} is not a JSON object", file.string());
}

void HfDirectory::add_shard(const std::string& file_name) {
  const fs::path file = path_ / file_name;
  if (!fs::exists(file)) {
    fail(304, "{}: the shard {} that the index names is missing. Fetch the model again.",
         path_.string(), file_name);
  }
  const size_t shard = shards_.size();
  shards_.push_back(std::make_unique<SafetensorsFile>(file));
  for (const SafetensorsEntry& entry : shards_.back()->tensors()) {
    const StoredTensor stored{shard, shards_.back().get(), &entry};
    const auto [at, inserted] = tensors_.emplace(entry.name, stored);
    if (!inserted) {
      fail(304, "{}: tensor `{}` stands in two shards, {} and {}", path_.string(), entry.name,
           at->second.file->path().filename().string(), file_name);
    }
  }
}

void HfDirectory::open_single() { add_shard(kSingleWeightsFile); }

void HfDirectory::open_sharded() {
  const HfIndex index = read_hf_index(path_ / kIndexFile);
  std::set<std::string> files;
  for (const auto& [name, file] : index.weight_map) files.insert(file);
  for (const std::string& file : files) add_shard(file);
  for (const auto& [name, file] : index.weight_map) {
    const auto at = tensors_.find(name);
    if (at == tensors_.end() || at->second.file->path().filename() != file) {
      fail(304, "{}: the index says that {} holds tensor `{}`, but it does not{}", path_.string(),
           file, name,
           at == tensors_.end()
               ? ""
               : fmt::format(" ({} does)", at->second.file->path().filename().string()));
    }
  }
  int64_t total = 0;
  for (const auto& [name, stored] : tensors_) {
    if (!index.weight_map.count(name)) {
      fail(304, "{}: {} holds tensor `{}`, which the index does not list", path_.string(),
           stored.file->path().filename().string(), name);
    }
    total += stored.entry->num_bytes();
  }
  if (index.total_size && *index.total_size != total) {
    fail(304, "{}: total_size of {} is {}, but the tensors have {} bytes together", path_.string(),
         kIndexFile, *index.total_size, total);
  }
}

std::optional<StoredTensor> HfDirectory::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  if (at == tensors_.end()) return std::nullopt;
  return at->second;
}

std::optional<ResolvedSource> HfDirectory::resolve(const TensorEntry& tensor) const {
  for (const DiskSource& source : tensor.sources) {
    const std::optional<StoredTensor> stored = find(source.name);
    if (!stored) continue;
    ResolvedSource found{.source = &source, .stored = *stored};
    locate(tensor, source, found);
    return found;
  }
  return std::nullopt;
}

bool HfDirectory::has_source(const TensorEntry& tensor) const {
  return std::any_of(tensor.sources.begin(), tensor.sources.end(),
                     [&](const DiskSource& source) { return find(source.name).has_value(); });
}

void HfDirectory::check(const TensorMap& model) const {
  constexpr size_t kNamed = 5;
  std::vector<std::string> missing;
  for (const TensorEntry& tensor : model.entries()) {
    const std::optional<ResolvedSource> found = resolve(tensor);
    if (!found) {
      missing.push_back(tensor.name);
    } else {
      computable(found->stored);
    }
  }
  if (missing.empty()) return;
  const size_t named = std::min(kNamed, missing.size());
  fail(301,
       "{}: {} of {} tensors are missing: {}{}. Is config.json that of these weights, and was "
       "everything fetched?",
       path_.string(), missing.size(), model.size(),
       fmt::join(missing.begin(), missing.begin() + static_cast<int64_t>(named), ", "),
       missing.size() > named ? fmt::format(", and {} more", missing.size() - named) : "");
}

std::vector<std::string> HfDirectory::unexpected(const TensorMap& model) const {
  std::set<std::string_view> used;
  for (const TensorEntry& tensor : model.entries()) {
    if (const auto found = resolve(tensor)) used.insert(found->stored.entry->name);
  }
  std::vector<std::string> names;
  for (const auto& [name, stored] : tensors_) {
    if (!used.count(name)) names.push_back(name);
  }
  return names;
}

void HfDirectory::load(const TensorEntry& tensor, ShardedTensor& destination) const {
  const std::optional<ResolvedSource> found = resolve(tensor);
  if (!found) fail(301, "{}: tensor `{}` is missing", path_.string(), tensor.name);
  SUTOR_ASSERT(destination.global_shape == tensor.shape);
  const DType dtype = computable(found->stored);
  const auto disk_size = static_cast<int64_t>(size_of(dtype));
  const int64_t row_elements = destination.row_elements();
  const int64_t begin = found->begin + destination.row_begin * row_elements * disk_size;
  const int64_t count = destination.num_elements();
  SUTOR_ASSERT(destination.row_begin >= 0 && begin + count * disk_size <= found->end);
  const InputFile& file = found->stored.file->file();
  if (dtype == destination.dtype) {
    file.read_at(begin, {destination.data, destination.num_bytes()});
    return;
  }
  std::vector<std::byte> piece(kPieceBytes);
  const auto piece_elements = static_cast<int64_t>(kPieceBytes) / disk_size;
  const auto size = static_cast<int64_t>(size_of(destination.dtype));
  for (int64_t done = 0; done < count; done += piece_elements) {
    const int64_t now = std::min(piece_elements, count - done);
    file.read_at(begin + done * disk_size,
                 std::span(piece).first(static_cast<size_t>(now * disk_size)));
    convert_elements(piece.data(), dtype, destination.data + done * size, destination.dtype, now);
  }
}

const std::map<std::string, Digest>& HfDirectory::tensor_digests(int threads) const {
  const std::lock_guard lock(digests_->mutex);
  if (digests_->filled) return digests_->tensors;
  std::vector<std::pair<const StoredTensor*, Digest*>> work;
  for (const auto& [name, stored] : tensors_) {
    work.emplace_back(&stored, &digests_->tensors[name]);
  }
  // As the bytes lie on the disk.
  std::sort(work.begin(), work.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->shard, a.first->entry->begin) <
           std::pair(b.first->shard, b.first->entry->begin);
  });
  parallel_tasks(threads, static_cast<int64_t>(work.size()), [&](int64_t i) {
    thread_local std::vector<std::byte> buffer(kPieceBytes);
    const StoredTensor& stored = *work[i].first;
    Hasher hasher;
    const int64_t bytes = stored.entry->num_bytes();
    for (int64_t done = 0; done < bytes; done += static_cast<int64_t>(kPieceBytes)) {
      const auto now = std::min<int64_t>(static_cast<int64_t>(kPieceBytes), bytes - done);
      const auto piece = std::span(buffer).first(static_cast<size_t>(now));
      stored.file->read(*stored.entry, done, piece);
      hasher.update(piece);
    }
    *work[i].second = hasher.digest();
  });
  digests_->filled = true;
  return digests_->tensors;
}

Digest HfDirectory::digest(int threads) const {
  const std::map<std::string, Digest>& digests = tensor_digests(threads);
  Hasher hasher;
  for (const auto& [name, stored] : tensors_) {
    hasher.update_int(static_cast<int64_t>(name.size()));
    hasher.update(name);
    hasher.update(stored.entry->dtype_name);
    hasher.update_int(static_cast<int64_t>(stored.entry->shape.size()));
    for (const int64_t extent : stored.entry->shape) hasher.update_int(extent);
    const Digest& bytes = digests.at(name);
    hasher.update_int(static_cast<int64_t>(bytes.high));
    hasher.update_int(static_cast<int64_t>(bytes.low));
  }
  return hasher.digest();
}

Digest HfDirectory::quick_digest() const {
  Hasher hasher;
  hasher.update_int(static_cast<int64_t>(config_text_.size()));
  hasher.update(config_text_);
  for (const auto& shard : shards_) {
    std::vector<std::byte> head(static_cast<size_t>(shard->header().data_begin));
    shard->file().read_at(0, head);
    hasher.update_int(shard->file().size());
    hasher.update(head);
  }
  return hasher.digest();
}

}  // namespace sutor
