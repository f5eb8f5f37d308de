#include "checkpoint/huggingface/model_directory.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/huggingface/quantized_source.h"
#include "checkpoint/huggingface/scale_grid.h"
#include "checkpoint/huggingface/tensor_fit.h"
#include "csrc/base/error.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

// Transposes a block of the disk's lines, whose columns are the tensor's rows.
template <typename Bits>
void turn(const std::byte* from, int64_t lines, int64_t line, int64_t step, int64_t rows,
          std::byte* to, int64_t row) {
  constexpr int64_t kTile = 16;  // rows whose ends stay in the cache
  for (int64_t tile = 0; tile < rows; tile += kTile) {
    const int64_t stop = std::min(rows, tile + kTile);
    for (int64_t c = 0; c < lines; ++c) {
      for (int64_t r = tile; r < stop; ++r) {
        std::memcpy(to + (r * row + c) * static_cast<int64_t>(sizeof(Bits)),
                    from + (c * line + r * step) * static_cast<int64_t>(sizeof(Bits)),
                    sizeof(Bits));
      }
    }
  }
}

void load_transposed(const ResolvedSource& found, DType dtype, const ShardedTensor& to) {
  constexpr int64_t kBlockElements = int64_t{1} << 18;
  if (to.num_elements() == 0) return;
  const int64_t columns = to.columns(), step = found.row_stride / found.element_bytes;
  const int64_t at_once = std::clamp(kBlockElements / step, int64_t{1}, to.row_count);
  const auto size = static_cast<int64_t>(size_of(to.dtype));
  std::vector<std::byte> block;
  for (int64_t row = 0; row < to.row_count; row += at_once) {
    const int64_t rows = std::min(at_once, to.row_count - row);
    const int64_t line = (rows - 1) * step + 1;
    const int64_t lines = std::clamp(kBlockElements / line, int64_t{1}, columns);
    block.resize(static_cast<size_t>(lines * line * size));
    for (int64_t col = 0; col < columns; col += lines) {
      const int64_t count = std::min(lines, columns - col);
      found.stored.file->load_ranges(
          found.ranges(to.row_begin + row, rows, to.col_begin + col, count), dtype, block.data(),
          to.dtype);
      const auto turn_bits = size == 2 ? turn<uint16_t> : turn<uint32_t>;
      turn_bits(block.data(), count, line, step, rows, to.data + (row * columns + col) * size,
                columns);
    }
  }
}

// The forms that a source may have on disk, by the suffixes of its name. Plain ones may be FP8 or
// INT8.
struct StoredForm {
  Encoding encoding;
  std::string_view suffix;
};
constexpr StoredForm kStoredForms[] = {{Encoding::kPlain, ""},
                                       {Encoding::kPackedInts, kPackedSuffix},
                                       {Encoding::kMxfp4, kMxfp4Blocks}};

}  // namespace

DType config_dtype(const nlohmann::json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto at = config.find(key);
    if (at == config.end() || at->is_null()) continue;
    if (*at == "float32") return DType::kF32;
    if (*at == "bfloat16") return DType::kBF16;
    if (*at == "float16") return DType::kF16;
    fail(ErrorCode::kBadStoredDType,
         "config.json: `{}` is {}; expected \"float32\", \"bfloat16\" or \"float16\"", key,
         at->dump());
  }
  return DType::kF32;
}

void ModelDirectory::set_config(std::string text, const std::string& where) {
  config_text_ = std::move(text);
  ParsedJson parsed = parse_json(config_text_);
  if (!parsed.value.is_object()) {
    fail(ErrorCode::kNoModel, "{} is not a JSON object{}{}", where,
         parsed.problem.empty() ? "" : ": ", parsed.problem);
  }
  config_ = std::move(parsed.value);
  quantization_ = QuantizationConfig(config_);
}

void ModelDirectory::add_shard(std::unique_ptr<ModelShard> added) {
  const ModelShard& shard = *added;
  const size_t number = shards_.size();
  shards_.push_back(std::move(added));
  for (const SafetensorsEntry& entry : shard.tensors()) {
    const auto [at, inserted] = tensors_.emplace(entry.name, StoredTensor{number, &shard, &entry});
    if (!inserted) {
      fail(ErrorCode::kContradictoryShards, "{}: tensor `{}` is in two shards, {} and {}",
           path_.string(), entry.name, at->second.file->name(), shard.name());
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
    for (const StoredForm& form : kStoredForms) {
      const auto stored = find(source.name + std::string(form.suffix));
      if (!stored) continue;
      ResolvedSource found{.source = &source, .stored = *stored, .encoding = form.encoding};
      if (stored->entry->dtype_name == kFp8Dtype) found.encoding = Encoding::kFp8;
      if (form.encoding == Encoding::kPlain && stored->entry->dtype == DType::kI8) {
        found.encoding = Encoding::kInt8;
      }
      if (found.encoding != Encoding::kPlain) add_scales(found);
      locate(tensor, found);
      return found;
    }
  }
  return std::nullopt;
}

std::vector<std::string> ModelDirectory::stored_forms(const TensorEntry& tensor) const {
  std::vector<std::string> names;
  for (const DiskSource& source : tensor.sources) {
    for (const StoredForm& form : kStoredForms) {
      const auto stored = find(source.name + std::string(form.suffix));
      if (stored) names.push_back(stored->entry->name);
    }
  }
  return names;
}

void ModelDirectory::add_scales(ResolvedSource& found) const {
  const auto beside = [&](std::string_view suffix) {
    return find(found.source->name + std::string(suffix));
  };
  if (found.encoding == Encoding::kMxfp4) {
    found.scales = beside(kMxfp4Scales);
    return;
  }
  found.scales = beside(kScale);
  if (found.encoding == Encoding::kFp8) {
    const auto inverse = beside(kScaleInv);
    if (inverse && found.scales) {
      fail(ErrorCode::kBadStoredDType,
           "{}: `{}` has two tensors of scales, `{}` and `{}`. Remove the one that is not meant.",
           found.stored.file->where(), found.source->name, inverse->entry->name,
           found.scales->entry->name);
    }
    found.inverse_name = inverse.has_value();
    if (inverse) found.scales = inverse;
  }
  found.zero_points = beside(kZeroPoint);
  found.column_order = beside(kColumnOrder);
  for (const auto& companion : {found.zero_points, found.column_order}) {
    if (companion) found.companions.push_back(*companion);
  }
  if (found.encoding == Encoding::kPackedInts) {
    const WeightScheme* scheme = quantization_.scheme_of(module_name(*found.source));
    if (scheme && scheme->spelled_out && !scheme->is_float) found.bits = scheme->bits;
    if (const auto shape = beside(kPackedShape)) found.companions.push_back(*shape);
  }
}

void ModelDirectory::require_plain(const ResolvedSource& found) const {
  for (const std::string_view suffix : {kScale, kScaleInv, kZeroPoint, kColumnOrder}) {
    const auto beside = find(found.source->name + std::string(suffix));
    if (!beside) continue;
    fail(
        ErrorCode::kBadStoredDType,
        "{}: tensor `{}` is {} and not quantised, but there is `{}`. If it stands for itself, "
        "remove that; if not, save the model dequantised or quantised by the library that made it.",
        found.stored.file->where(), found.stored.entry->name, found.stored.entry->dtype_name,
        beside->entry->name);
  }
}

void ModelDirectory::check(const TensorMap& model) const {
  constexpr size_t kNamed = 5;
  std::vector<std::string> missing;
  quantization_.require_readable((files_root() / "config.json").string());
  for (const TensorEntry& tensor : model.entries()) {
    const std::optional<ResolvedSource> found = resolve(tensor);
    if (!found) {
      missing.push_back(tensor.name);
    } else if (found->encoding != Encoding::kPlain) {
      check_scales(*found, tensor, quantization_);
    } else {
      computable(found->stored);
      require_plain(*found);
    }
  }
  if (missing.empty()) return;
  const size_t named = std::min(kNamed, missing.size());
  const std::string cause = misnamed_cause(*this, missing);
  fail(ErrorCode::kMissingTensor, "{}: {} of {} tensors are missing: {}{}. {}", path_.string(),
       missing.size(), model.size(),
       fmt::join(missing.begin(), missing.begin() + static_cast<int64_t>(named), ", "),
       missing.size() > named ? fmt::format(", and {} more", missing.size() - named) : "",
       cause.empty() ? "Is config.json that of these weights, and was everything fetched?" : cause);
}

std::vector<std::string> ModelDirectory::unexpected(const TensorMap& model) const {
  std::set<std::string_view> used;
  for (const TensorEntry& tensor : model.entries()) {
    const auto found = resolve(tensor);
    if (!found) continue;
    used.insert(found->stored.entry->name);
    if (found->scales) used.insert(found->scales->entry->name);
    for (const StoredTensor& companion : found->companions) used.insert(companion.entry->name);
  }
  std::vector<std::string> names;
  for (const auto& [name, stored] : tensors_) {
    if (!used.count(name)) names.push_back(name);
  }
  return names;
}

void ModelDirectory::load(const TensorEntry& tensor, const ShardedTensor& destination) const {
  const std::optional<ResolvedSource> found = resolve(tensor);
  if (!found) {
    fail(ErrorCode::kMissingTensor, "{}: tensor `{}` is missing", path_.string(), tensor.name);
  }
  SUTOR_ASSERT(destination.global_shape == tensor.shape);
  if (found->encoding != Encoding::kPlain) {
    load_quantized(*found, tensor, quantization_, destination);
    return;
  }
  const DType dtype = computable(found->stored);
  if (found->transposed()) {
    load_transposed(*found, dtype, destination);
    return;
  }
  SUTOR_ASSERT(destination.lies_inside());
  found->stored.file->load_ranges(found->ranges(destination.row_begin, destination.row_count,
                                                destination.col_begin, destination.columns()),
                                  dtype, destination.data, destination.dtype);
}

int64_t ModelDirectory::read_end_row(const TensorEntry& tensor, int64_t row, int64_t bytes) const {
  const std::optional<ResolvedSource> found = resolve(tensor);
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  // A read of some columns of the disk's lines also reads the others.
  if (!found || found->transposed() || found->row_stride == 0) return rows;
  const int64_t row_bytes = found->row_stride;
  const int64_t wanted = row + std::max<int64_t>(1, bytes / row_bytes);
  if (wanted >= rows) return rows;
  const int64_t begin = found->origin + row * row_bytes;
  const int64_t seam = found->stored.file->last_read_end(begin, found->origin + wanted * row_bytes);
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
