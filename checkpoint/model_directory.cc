#include "checkpoint/model_directory.h"

#include <algorithm>
#include <tuple>

#include "csrc/base/error.h"

namespace sutor {
namespace {

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
         found.stored.file->where(), entry.name, text_of(entry.shape), text_of(expected));
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

// Eight elements of a row in a word.
void locate_packed(const TensorEntry& tensor, ResolvedSource& found) {
  const SafetensorsEntry& entry = *found.stored.entry;
  const bool fits = tensor.shape.size() == 2 && tensor.shape[1] % 8 == 0 &&
                    entry.dtype == DType::kI32 &&
                    entry.shape == std::vector<int64_t>{tensor.shape[0], tensor.shape[1] / 8};
  if (!fits) {
    fail(302,
         "{}: tensor `{}` is {} {}, but a matrix {} packed by four bits is I32 with an eighth of "
         "the columns",
         found.stored.file->where(), entry.name, entry.dtype_name, text_of(entry.shape),
         text_of(tensor.shape));
  }
  found.begin = entry.begin;
  found.end = entry.end;
}

DType computable(const StoredTensor& stored) {
  const std::optional<DType> dtype = stored.entry->dtype;
  if (dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16) return *dtype;
  fail(307,
       "{}: tensor `{}` is {}; sutor computes with F32, BF16 and F16 weights, and reads F8_E4M3 "
       "and packed 4-bit matrices that have their scales beside them. Convert the checkpoint to "
       "one of these first.",
       stored.file->where(), stored.entry->name, stored.entry->dtype_name);
}

// `weight_block_size` of the quantization_config, of FP8: {rows, columns}.
std::pair<int64_t, int64_t> fp8_block(const nlohmann::json& config) {
  const auto found = config.find("quantization_config");
  if (found == config.end() || !found->is_object()) return {0, 0};
  const auto size = found->find("weight_block_size");
  if (size == found->end() || !size->is_array() || size->size() != 2) return {0, 0};
  const auto extent = [](const nlohmann::json& n) {
    return n.is_number_integer() ? n.get<int64_t>() : 0;
  };
  return {extent((*size)[0]), extent((*size)[1])};
}

// The scales of a quantised matrix, whole: they are few. Throws E0307 when they are missing or do
// not fit.
BlockScales read_scales(const ResolvedSource& found, const TensorEntry& tensor,
                        const nlohmann::json& config) {
  const SafetensorsEntry& weight = *found.stored.entry;
  const bool fp8 = found.encoding == Encoding::kFp8Blocks;
  if (!found.scales) {
    fail(307, "{}: tensor `{}` is {}, and there is no `{}{}` with its scales",
         found.stored.file->where(), weight.name, weight.dtype_name, found.source->name,
         fp8 ? kFp8Scale : kPackedScale);
  }
  const SafetensorsEntry& entry = *found.scales->entry;
  BlockScales scales{.dtype = computable(*found.scales)};
  bool fits = entry.shape.size() == 2 && tensor.shape.size() == 2 && found.source->index < 0;
  const int64_t rows = fits ? tensor.shape[0] : 0, cols = fits ? tensor.shape[1] : 0;
  if (fits) {
    scales.cols = entry.shape[1];
    std::tie(scales.block_rows, scales.block_cols) =
        fp8 ? fp8_block(config) : std::pair<int64_t, int64_t>{1, 0};
    const auto or_even = [](int64_t& block, int64_t extent, int64_t blocks) {
      if (block == 0 && blocks > 0 && extent % blocks == 0) block = extent / blocks;
    };
    or_even(scales.block_rows, rows, entry.shape[0]);
    or_even(scales.block_cols, cols, entry.shape[1]);
    const auto covers = [](int64_t block, int64_t extent, int64_t blocks) {
      return block > 0 && (extent + block - 1) / block == blocks;
    };
    fits = covers(scales.block_rows, rows, entry.shape[0]) &&
           covers(scales.block_cols, cols, entry.shape[1]);
  }
  if (!fits) {
    fail(307, "{}: the scales `{}` {} do not fit the matrix `{}` {} (blocks of {} x {})",
         found.stored.file->where(), entry.name, text_of(entry.shape), weight.name,
         text_of(tensor.shape), scales.block_rows, scales.block_cols);
  }
  scales.values.resize(static_cast<size_t>(entry.num_elements()));
  found.scales->file->load(entry.begin, scales.dtype,
                           {.name = entry.name,
                            .dtype = DType::kF32,
                            .global_shape = entry.shape,
                            .row_count = entry.shape[0],
                            .data = reinterpret_cast<std::byte*>(scales.values.data())});
  return scales;
}

void load_quantized(const ResolvedSource& found, const TensorEntry& tensor,
                    const BlockScales& scales, const ShardedTensor& to) {
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  const bool fp8 = found.encoding == Encoding::kFp8Blocks;
  // Of the rows as bytes: the wanted elements, or whole packed rows.
  ShardedTensor raw{.name = tensor.name, .dtype = DType::kU8, .global_shape = tensor.shape};
  if (fp8) {
    raw.col_begin = to.col_begin;
    raw.col_count = to.columns();
  } else {
    raw.global_shape[1] /= 2;
  }
  const int64_t columns = to.columns();
  if (to.num_elements() == 0) return;
  const int64_t piece = std::clamp(kPieceBytes / raw.columns(), int64_t{1}, to.row_count);
  std::vector<std::byte> bytes(static_cast<size_t>(piece * raw.columns()));
  std::vector<float> values(static_cast<size_t>(columns));
  std::byte* out = to.data;
  raw.data = bytes.data();
  for (int64_t begin = 0; begin < to.row_count; begin += piece) {
    raw.row_begin = to.row_begin + begin;
    raw.row_count = std::min(piece, to.row_count - begin);
    found.stored.file->load(found.begin, DType::kU8, raw);
    for (int64_t i = 0; i < raw.row_count; ++i) {
      const std::byte* row = raw.data + i * raw.columns();
      const auto dequantize = fp8 ? dequantize_fp8 : dequantize_int4;
      dequantize(row, scales, raw.row_begin + i, to.col_begin, columns, values.data());
      convert_elements(reinterpret_cast<const std::byte*>(values.data()), DType::kF32, out,
                       to.dtype, columns);
      out += static_cast<size_t>(columns) * size_of(to.dtype);
    }
  }
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

void ModelDirectory::set_config(std::string text, const std::string& where) {
  config_text_ = std::move(text);
  config_ = nlohmann::json::parse(config_text_, nullptr, /*allow_exceptions=*/false);
  if (!config_.is_object()) fail(300, "{} is not a JSON object", where);
}

void ModelDirectory::add_shard(std::unique_ptr<ModelShard> added) {
  const ModelShard& shard = *added;
  const size_t number = shards_.size();
  shards_.push_back(std::move(added));
  for (const SafetensorsEntry& entry : shard.tensors()) {
    const auto [at, inserted] = tensors_.emplace(entry.name, StoredTensor{number, &shard, &entry});
    if (!inserted) {
      fail(304, "{}: tensor `{}` stands in two shards, {} and {}", path_.string(), entry.name,
           at->second.file->name(), shard.name());
    }
  }
}

std::optional<StoredTensor> ModelDirectory::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  if (at == tensors_.end()) return std::nullopt;
  return at->second;
}

std::optional<ResolvedSource> ModelDirectory::resolve(const TensorEntry& tensor) const {
  for (const DiskSource& source : tensor.sources) {
    if (const std::optional<StoredTensor> stored = find(source.name)) {
      ResolvedSource found{.source = &source, .stored = *stored};
      locate(tensor, source, found);
      if (stored->entry->dtype_name == kFp8Dtype) {
        found.encoding = Encoding::kFp8Blocks;
        found.scales = find(source.name + std::string(kFp8Scale));
      }
      return found;
    }
    if (const auto packed = find(source.name + std::string(kPackedSuffix))) {
      ResolvedSource found{.source = &source, .stored = *packed, .encoding = Encoding::kInt4Groups};
      found.scales = find(source.name + std::string(kPackedScale));
      locate_packed(tensor, found);
      return found;
    }
  }
  return std::nullopt;
}

bool ModelDirectory::has_source(const TensorEntry& tensor) const {
  return std::any_of(tensor.sources.begin(), tensor.sources.end(), [&](const DiskSource& source) {
    return find(source.name) || find(source.name + std::string(kPackedSuffix));
  });
}

void ModelDirectory::check(const TensorMap& model) const {
  constexpr size_t kNamed = 5;
  std::vector<std::string> missing;
  for (const TensorEntry& tensor : model.entries()) {
    const std::optional<ResolvedSource> found = resolve(tensor);
    if (!found) {
      missing.push_back(tensor.name);
    } else if (found->encoding != Encoding::kPlain) {
      read_scales(*found, tensor, config_);
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

std::vector<std::string> ModelDirectory::unexpected(const TensorMap& model) const {
  std::set<std::string_view> used;
  for (const TensorEntry& tensor : model.entries()) {
    const auto found = resolve(tensor);
    if (!found) continue;
    used.insert(found->stored.entry->name);
    if (found->scales) used.insert(found->scales->entry->name);
    const auto shape = find(found->source->name + "_shape");
    if (shape && found->encoding == Encoding::kInt4Groups) used.insert(shape->entry->name);
  }
  std::vector<std::string> names;
  for (const auto& [name, stored] : tensors_) {
    if (!used.count(name)) names.push_back(name);
  }
  return names;
}

void ModelDirectory::load(const TensorEntry& tensor, const ShardedTensor& destination) const {
  const std::optional<ResolvedSource> found = resolve(tensor);
  if (!found) fail(301, "{}: tensor `{}` is missing", path_.string(), tensor.name);
  SUTOR_ASSERT(destination.global_shape == tensor.shape);
  if (found->encoding != Encoding::kPlain) {
    load_quantized(*found, tensor, read_scales(*found, tensor, config_), destination);
    return;
  }
  found->stored.file->load(found->begin, computable(found->stored), destination);
}

int64_t ModelDirectory::row_to_cut(const TensorEntry& tensor, int64_t row, int64_t bytes) const {
  const std::optional<ResolvedSource> found = resolve(tensor);
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  const int64_t row_bytes = found && rows > 0 ? (found->end - found->begin) / rows : 0;
  if (row_bytes == 0) return rows;
  const int64_t wanted = row + std::max<int64_t>(1, bytes / row_bytes);
  if (wanted >= rows) return rows;
  const int64_t begin = found->begin + row * row_bytes;
  const int64_t seam = found->stored.file->last_seam(begin, found->begin + wanted * row_bytes);
  const bool between_rows = (seam - begin) % row_bytes == 0;
  return seam > begin && between_rows ? row + (seam - begin) / row_bytes : rows;
}

Digest ModelDirectory::digest_of(const std::map<std::string, Digest>& digests) const {
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

Digest ModelDirectory::quick_digest() const {
  Hasher hasher;
  hasher.update_int(static_cast<int64_t>(config_text_.size()));
  hasher.update(config_text_);
  for (const auto& shard : shards_) {
    hasher.update_int(shard->size());
    hasher.update(shard->header_bytes());
  }
  return hasher.digest();
}

int64_t ModelDirectory::total_bytes() const {
  int64_t bytes = 0;
  for (const auto& shard : shards_) bytes += shard->size();
  return bytes;
}

int64_t ModelDirectory::fetched_bytes() const {
  int64_t bytes = 0;
  for (const auto& shard : shards_) bytes += shard->fetched_bytes();
  return bytes;
}

}  // namespace sutor
