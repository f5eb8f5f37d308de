#include "checkpoint/huggingface/scale_grid.h"

#include <algorithm>
#include <optional>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace {

int64_t divided_up(int64_t extent, int64_t by) { return (extent + by - 1) / by; }

std::string_view scale_suffix(Encoding encoding) {
  if (encoding == Encoding::kFp8) return kScaleInv;
  return encoding == Encoding::kMxfp4 ? kMxfp4Scales : kScale;
}

template <typename... Parts>
[[noreturn]] void fail_contradiction(const ResolvedSource& found, const WeightScheme& scheme,
                                     fmt::format_string<Parts...> format, Parts&&... parts) {
  fail(
      ErrorCode::kBadStoredDType,
      "{}: `{}` {}, but config.json says otherwise (quantization_config.config_groups.{}). Is this "
      "the config.json of these weights?",
      found.stored.file->where(), found.stored.entry->name,
      fmt::format(format, std::forward<Parts>(parts)...), scheme.group);
}

// Whether the source is the stored tensor as a whole, in its own order.
bool is_entire_tensor(const DiskSource& source) {
  return source.index < 0 && source.row_begin == 0 && source.row_step == 1 && !source.transposed;
}

// The elements are of the kind that the scheme says, and have beside them what it says.
void check_form(const ResolvedSource& found, const WeightScheme& scheme) {
  if (!scheme.quantized) fail_contradiction(found, scheme, "is quantised");
  if (!scheme.spelled_out) return;
  const bool packed = found.encoding == Encoding::kPackedInts;
  const bool is_float = found.encoding == Encoding::kFp8;
  if (is_float != scheme.is_float || (packed && scheme.unpacked) || (!packed && scheme.packed) ||
      (packed && found.bits != scheme.bits)) {
    fail_contradiction(found, scheme, "is {} {}{}", found.stored.entry->dtype_name,
                       shape_text(found.stored.entry->shape),
                       packed ? fmt::format(" ({} bits an element)", found.bits) : "");
  }
  if (scheme.symmetric == found.zero_points.has_value()) {
    fail_contradiction(found, scheme, "has {} `{}{}`", scheme.symmetric ? "a" : "no",
                       found.source->name, kZeroPoint);
  }
  if (scheme.column_order != found.column_order.has_value()) {
    fail_contradiction(found, scheme, "has {} `{}{}`", scheme.column_order ? "no" : "a",
                       found.source->name, kColumnOrder);
  }
}

struct Blocks {
  int64_t rows = 0, columns = 0;
};

Blocks blocks_of(const WeightScheme& scheme, int64_t rows, int64_t columns) {
  switch (scheme.strategy) {
    case ScaleStrategy::kTensor:
      return {rows, columns};
    case ScaleStrategy::kChannel:
      return {1, columns};
    case ScaleStrategy::kGroup:
      return {1, scheme.group_size};
    case ScaleStrategy::kBlock:
      break;
  }
  return {scheme.block_rows, scheme.block_columns};
}

// The blocks that scales of this shape divide the matrix into evenly, where `said` is not known.
Blocks even_blocks(Blocks said, const std::vector<int64_t>& scales, int64_t rows, int64_t columns) {
  const auto even = [](int64_t block, int64_t extent, int64_t blocks) {
    return block == 0 && blocks > 0 && extent % blocks == 0 ? extent / blocks : block;
  };
  return {even(said.rows, rows, scales[0]), even(said.columns, columns, scales[1])};
}

// Rows and columns of the grid: one scale may stand without axes, and one a row without columns.
std::vector<int64_t> grid_shape(const std::vector<int64_t>& stored) {
  std::vector<int64_t> shape = stored;
  while (shape.size() < 2) shape.push_back(1);
  return shape;
}

// The dtype of the scales, and of their products with elements.
void set_dtypes(const ResolvedSource& found, BlockScales& scales) {
  const SafetensorsEntry& entry = *found.scales->entry;
  const bool fp8 = found.encoding == Encoding::kFp8;
  scales.exponents = fp8 && (entry.dtype_name == kE8m0Dtype || entry.dtype == DType::kU8);
  if (!scales.exponents) scales.dtype = computable(*found.scales);
  // The methods that call them inverse multiply in fp32; compressed-tensors does it in the dtype of
  // the scales, for which it takes BF16 when they are exponents.
  if (!found.inverse_name) scales.product = scales.exponents ? DType::kBF16 : scales.dtype;
}

void check_zero_points(const ResolvedSource& found, const std::vector<int64_t>& grid) {
  if (!found.zero_points) return;
  const SafetensorsEntry& entry = *found.zero_points->entry;
  const bool integers =
      found.encoding == Encoding::kPackedInts || found.encoding == Encoding::kInt8;
  const bool plain = entry.dtype == DType::kI8 && grid_shape(entry.shape) == grid;
  const std::vector<int64_t> packed = {divided_up(grid[0] * found.bits, 32), grid[1]};
  const bool fits = found.bits > 0 && entry.dtype == DType::kI32 && entry.shape == packed;
  if (integers && (plain || fits)) return;
  fail(ErrorCode::kBadStoredDType,
       "{}: the zero points `{}` {} {} do not fit the matrix `{}`: expected I8 {}{}",
       found.zero_points->file->where(), entry.name, entry.dtype_name, shape_text(entry.shape),
       found.stored.entry->name, shape_text(grid),
       found.bits > 0 ? fmt::format(" or I32 {}", shape_text(packed)) : "");
}

void check_column_order(const ResolvedSource& found, int64_t rows_of_block) {
  if (!found.column_order) return;
  const SafetensorsEntry& entry = *found.column_order->entry;
  const bool fits = found.encoding == Encoding::kPackedInts && rows_of_block == 1 &&
                    (entry.dtype == DType::kI32 || entry.dtype == DType::kI64) &&
                    entry.shape == std::vector<int64_t>{found.columns};
  if (fits) return;
  fail(ErrorCode::kBadStoredDType,
       "{}: the groups of columns `{}` {} {} do not fit the matrix `{}`: expected I32 [{}], beside "
       "packed integers with scales for groups",
       found.column_order->file->where(), entry.name, entry.dtype_name, shape_text(entry.shape),
       found.stored.entry->name, found.columns);
}

}  // namespace

std::string module_name(const DiskSource& source) {
  const std::string_view suffix = ".weight";
  std::string name = source.name;
  if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  return name;
}

void require_scales(const ResolvedSource& found) {
  if (found.scales) return;
  const std::string other =
      found.encoding == Encoding::kFp8 ? fmt::format(" or `{}{}`", found.source->name, kScale) : "";
  fail(ErrorCode::kBadStoredDType,
       "{}: tensor `{}` is {}, and there is no `{}{}`{} with its scales",
       found.stored.file->where(), found.stored.entry->name, found.stored.entry->dtype_name,
       found.source->name, scale_suffix(found.encoding), other);
}

BlockScales scale_grid(const ResolvedSource& found, const TensorEntry& tensor,
                       const QuantizationConfig& config) {
  require_scales(found);
  const WeightScheme* scheme = nullptr;
  if (config.has_groups()) {
    scheme = config.scheme_of(module_name(*found.source));
    if (!scheme) {
      fail(ErrorCode::kBadStoredDType,
           "{}: `{}` is quantised ({}), but no group of quantization_config targets the module "
           "`{}`, "
           "or `ignore` names it. Is this the config.json of these weights?",
           found.stored.file->where(), found.stored.entry->name, found.stored.entry->dtype_name,
           module_name(*found.source));
    }
    check_form(found, *scheme);
  }
  const SafetensorsEntry& entry = *found.scales->entry;
  BlockScales scales;
  set_dtypes(found, scales);
  const std::vector<int64_t> grid = grid_shape(entry.shape);
  bool fits = grid.size() == 2 && tensor.shape.size() == 2 && is_entire_tensor(*found.source);
  Blocks block;
  if (fits) {
    if (scheme && scheme->spelled_out) {
      block = blocks_of(*scheme, found.rows, found.columns);
    } else if (found.encoding == Encoding::kFp8) {
      block = {config.block().first, config.block().second};
    } else if (grid[0] > 1) {
      block.rows = 1;
    }
    const bool said = block.columns > 0;
    block = even_blocks(block, grid, found.rows, found.columns);
    // Nobody has a scale for each column; such a shape means something else.
    const bool for_each_column = !said && block.columns == 1 && found.columns > 1;
    fits = !for_each_column && block.rows > 0 && block.columns > 0 &&
           divided_up(found.rows, block.rows) == grid[0] &&
           divided_up(found.columns, block.columns) == grid[1];
  }
  if (!fits) {
    fail(ErrorCode::kBadStoredDType,
         "{}: the scales `{}` {} do not fit the matrix `{}` {} (blocks of {} x {})",
         found.stored.file->where(), entry.name, shape_text(entry.shape), found.stored.entry->name,
         shape_text(tensor.shape), block.rows, block.columns);
  }
  scales.cols = grid[1];
  scales.block_rows = block.rows;
  scales.block_cols = block.columns;
  check_zero_points(found, grid);
  check_column_order(found, block.rows);
  return scales;
}

}  // namespace sutor
