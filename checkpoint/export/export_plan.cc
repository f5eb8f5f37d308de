#include "checkpoint/export/export_plan.h"

#include <algorithm>

#include "checkpoint/huggingface/quantized_source.h"
#include "checkpoint/huggingface/scale_grid.h"
#include "csrc/base/error.h"

namespace sutor {
namespace {

using SlicesOf = std::map<const SafetensorsEntry*, std::vector<OutputSlice>>;

bool is_quantized(const ResolvedSource& found) { return found.encoding != Encoding::kPlain; }

ResolvedSource resolved(const ModelDirectory& base, const TensorMap& model,
                        const std::string& name) {
  const TensorEntry* entry = model.find(name);
  const auto found = entry ? base.resolve(*entry) : std::nullopt;
  if (!found) {
    fail(ErrorCode::kMissingTensor,
         "the base model {} has no tensor `{}`. Is it the model that was trained?",
         base.path().string(), name);
  }
  return *found;
}

// Adds a tensor to the slice with the bytes of `like`, which is made when there is none.
OutputSlice& add_to_slice(std::vector<OutputSlice>& slices, OutputSlice like,
                          TensorInSlice tensor) {
  tensor.origin -= like.begin;
  const auto at = std::find_if(slices.begin(), slices.end(), [&](const OutputSlice& slice) {
    return slice.begin == like.begin && slice.end == like.end;
  });
  OutputSlice& slice = at == slices.end() ? slices.emplace_back(std::move(like)) : *at;
  slice.tensors.push_back(std::move(tensor));
  return slice;
}

// Trained values that replace plain ones.
void add_plain(SlicesOf& slices, const TensorEntry& entry, const ResolvedSource& found,
               bool again = false) {
  const SafetensorsEntry& stored = *found.stored.entry;
  if (!stored.dtype) {
    fail(ErrorCode::kBadStoredDType,
         "{}: tensor `{}` is {}, into which trained values cannot be converted",
         found.stored.file->where(), stored.name, stored.dtype_name);
  }
  OutputSlice slice{.form = SliceForm::kElements, .dtype = *stored.dtype};
  slice.begin = found.contiguous() ? found.begin() : found.matrix_begin;
  slice.end = found.contiguous() ? found.end() : found.matrix_begin + found.matrix_bytes;
  slice.begin -= stored.begin;
  slice.end -= stored.begin;
  OutputSlice& filled = add_to_slice(slices[&stored], slice,
                                     {&entry, found, true, found.origin - stored.begin,
                                      found.row_stride, found.col_stride, again});
  SUTOR_ASSERT(!found.contiguous() || filled.tensors.size() == 1);
}

// A matrix and its scales, quantised anew.
void add_requantized(SlicesOf& slices, const TensorEntry& entry, const ResolvedSource& found) {
  const SafetensorsEntry& stored = *found.stored.entry;
  const SafetensorsEntry& scales = *found.scales->entry;
  TensorInSlice tensor{&entry, found, true, found.origin - stored.begin, found.row_stride, 0};
  OutputSlice slice{.begin = found.matrix_begin - stored.begin};
  slice.end = slice.begin + found.matrix_bytes;
  if (found.encoding != Encoding::kMxfp4) {
    slice.form = SliceForm::kCodes;
    add_to_slice(slices[&stored], slice, tensor);
    add_to_slice(slices[&scales], {.form = SliceForm::kScales, .end = scales.num_bytes()}, tensor);
    if (found.zero_points) {
      const SafetensorsEntry& zeros = *found.zero_points->entry;
      add_to_slice(slices[&zeros], {.form = SliceForm::kZeroPoints, .end = zeros.num_bytes()},
                   tensor);
    }
    return;
  }
  slice.form = SliceForm::kMxfp4;
  add_to_slice(slices[&stored], slice, tensor);
  slice.form = SliceForm::kMxfp4Scales;
  for (int64_t* bytes : {&slice.begin, &slice.end, &tensor.origin, &tensor.row_stride}) {
    *bytes /= kMxfp4GroupBytes;
  }
  add_to_slice(slices[&scales], slice, tensor);
}

// A matrix whose elements become plain numbers; its scales are dropped.
void add_dequantized(SlicesOf& slices, const TensorEntry& entry, const ResolvedSource& found,
                     bool trained, DType dtype) {
  const ElementLayout layout =
      element_layout(entry, *found.source, static_cast<int64_t>(size_of(dtype)));
  OutputSlice slice{.form = SliceForm::kElements,
                    .begin = layout.matrix_begin,
                    .end = layout.matrix_begin + layout.matrix_bytes,
                    .dtype = dtype,
                    .over_base = false};
  add_to_slice(slices[found.stored.entry], slice,
               {&entry, found, trained, layout.origin, layout.row_stride, layout.col_stride});
}

bool is_filled(const OutputSlice& slice) {
  int64_t elements = 0;
  for (const TensorInSlice& tensor : slice.tensors) {
    elements += tensor.base.rows * tensor.base.columns;
  }
  return elements * static_cast<int64_t>(size_of(slice.dtype)) == slice.bytes();
}

// Sorts the slices and adds slices of the base's bytes between them.
std::vector<OutputSlice> completed(std::vector<OutputSlice> slices, int64_t bytes,
                                   bool dequantized) {
  std::sort(slices.begin(), slices.end(),
            [](const OutputSlice& a, const OutputSlice& b) { return a.begin < b.begin; });
  std::vector<OutputSlice> all;
  int64_t at = 0;
  const auto copy_to = [&](int64_t end) {
    SUTOR_ASSERT(at <= end && (at == end || !dequantized));
    if (at < end) all.push_back({.begin = at, .end = end});
  };
  for (OutputSlice& slice : slices) {
    copy_to(slice.begin);
    at = slice.end;
    all.push_back(std::move(slice));
  }
  copy_to(bytes);
  for (const OutputSlice& slice : all) SUTOR_ASSERT(slice.over_base || is_filled(slice));
  if (all.empty()) all.push_back({});  // a tensor without elements
  return all;
}

// "model.layers.3.mlp.experts" for tensors of routed experts, because transformers has one module
// for all experts of a layer; for others the matrix's name without ".weight".
std::string module_of(const TensorEntry& entry, const ResolvedSource& found) {
  const std::string& name = found.source->name;
  const size_t experts = name.find(".experts.");
  if (entry.role == TensorRole::kRoutedExpert && experts != std::string::npos) {
    return name.substr(0, experts + std::string_view(".experts").size());
  }
  return module_name(*found.source);
}

class Planner {
 public:
  Planner(const ModelDirectory& base, const TensorMap& model,
          const std::vector<std::string>& trained, QuantizedRule rule)
      : base_(base), model_(model) {
    plan_.rule = rule;
    for (const std::string& name : trained) trained_.emplace(name, resolved(base, model, name));
  }

  ExportPlan plan() {
    for (const auto& [name, found] : trained_) {
      if (is_quantized(found)) plan_.trained_quantized.insert(name);
    }
    const bool dequantize = plan_.rule == QuantizedRule::kDequantize;
    if (dequantize && !plan_.trained_quantized.empty()) dequantize_layers();
    for (const auto& [name, found] : trained_) {
      const TensorEntry& entry = *model_.find(name);
      if (!is_quantized(found)) {
        add_plain(slices_, entry, found);
        if (const auto head = tied_copy(entry, found)) add_plain(slices_, entry, *head, true);
        continue;
      }
      check_scales(found, entry, base_.quantization());
      if (!dequantize) add_requantized(slices_, entry, found);
    }
    for (const auto& shard : base_.shards()) plan_.shards.push_back({.base = shard.get()});
    for (const auto& [name, stored] : base_.tensors()) add_tensor(stored);
    for (OutputShard& shard : plan_.shards) put_in_order(shard);
    return std::move(plan_);
  }

 private:
  // Dequantises the trained quantised matrices, and all quantised routed experts of layers in which
  // one of them is trained.
  void dequantize_layers() {
    const DType dtype = config_dtype(base_.config());
    std::set<int> layers;
    for (const std::string& name : plan_.trained_quantized) {
      const TensorEntry& entry = *model_.find(name);
      if (entry.role == TensorRole::kRoutedExpert) layers.insert(entry.layer);
    }
    for (const TensorEntry& entry : model_.entries()) {
      const bool trained = plan_.trained_quantized.count(entry.name) > 0;
      const bool beside = entry.role == TensorRole::kRoutedExpert && layers.count(entry.layer) > 0;
      if (!trained && !beside) continue;
      const auto found = base_.resolve(entry);
      if (!found || !is_quantized(*found)) continue;
      check_scales(*found, entry, base_.quantization());
      add_dequantized(slices_, entry, *found, trained, dtype);
      dequantized_.insert_or_assign(found->stored.entry, std::pair(found->source, entry.shape));
      drop_beside(*found);
      plan_.dequantized_modules.insert(module_of(entry, *found));
    }
  }

  // Where the base stores the embedding again as the head that is tied to it (ModelSource checks
  // that they are equal): other readers may take either.
  std::optional<ResolvedSource> tied_copy(const TensorEntry& entry,
                                          const ResolvedSource& found) const {
    const auto head = base_.find("lm_head.weight");
    const bool tied = head && entry.role == TensorRole::kEmbedding &&
                      model_.find("lm_head.weight") == nullptr && head->entry != found.stored.entry;
    if (!tied || head->entry->dtype_name != found.stored.entry->dtype_name ||
        head->entry->shape != found.stored.entry->shape) {
      return std::nullopt;
    }
    return found.moved_to(*head);
  }

  // Drops what belongs to a matrix that is no longer quantised, the scales of its module's
  // activations too.
  void drop_beside(const ResolvedSource& found) {
    dropped_.insert(found.scales->entry);
    for (const StoredTensor& beside : found.companions) dropped_.insert(beside.entry);
    for (const char* whose : {"input", "output", "activation", "k", "v"}) {
      for (const char* what : {"_scale", "_global_scale", "_zero_point"}) {
        const auto beside =
            base_.find(fmt::format("{}.{}{}", module_name(*found.source), whose, what));
        if (beside) dropped_.insert(beside->entry);
      }
    }
  }

  void add_tensor(const StoredTensor& stored) {
    const SafetensorsEntry& entry = *stored.entry;
    OutputShard& shard = plan_.shards[stored.shard];
    if (dropped_.count(&entry)) {
      shard.same_header = false;
      return;
    }
    OutputTensor tensor{
        .base = stored, .name = entry.name, .dtype_name = entry.dtype_name, .shape = entry.shape};
    int64_t bytes = entry.num_bytes();
    const auto source = dequantized_.find(&entry);
    if (source != dequantized_.end()) {
      shard.same_header = false;
      tensor.dequantized = true;
      const auto& [from, shape] = source->second;
      tensor.name = from->name;
      tensor.dtype_name = name_of(config_dtype(base_.config()));
      tensor.shape = from->disk_shape.empty() ? shape : from->disk_shape;
      bytes = SafetensorsDeclaration{tensor.name, tensor.dtype_name, tensor.shape}.num_bytes();
    } else if (is_scale(entry.name)) {
      plan_.still_quantized = true;
    }
    tensor.slices = completed(std::move(slices_[&entry]), bytes, tensor.dequantized);
    shard.tensors.push_back(std::move(tensor));
  }

  // Whether the name is that of the scales of a matrix that the base has.
  bool is_scale(const std::string& name) const {
    const auto belongs = [&](std::string_view suffix, std::string_view to) {
      return name.ends_with(suffix) &&
             base_.find(name.substr(0, name.size() - suffix.size()) + std::string(to));
    };
    return belongs(kScaleInv, "") || belongs(kScale, "") || belongs(kScale, kPackedSuffix) ||
           belongs(kMxfp4Scales, kMxfp4Blocks);
  }

  // The base's order, or the order in which the Python library would store the tensors.
  static void put_in_order(OutputShard& shard) {
    std::map<std::string, int64_t> order;
    if (shard.same_header) {
      for (const OutputTensor& tensor : shard.tensors) {
        order[tensor.name] = tensor.base.entry - shard.base->tensors().data();
      }
    } else {
      std::vector<SafetensorsDeclaration> sorted;
      for (const OutputTensor& tensor : shard.tensors) {
        sorted.push_back({tensor.name, tensor.dtype_name, tensor.shape});
      }
      sort_as_safetensors(sorted);
      for (size_t i = 0; i < sorted.size(); ++i) order[sorted[i].name] = static_cast<int64_t>(i);
    }
    std::sort(shard.tensors.begin(), shard.tensors.end(),
              [&](const OutputTensor& a, const OutputTensor& b) {
                return order.at(a.name) < order.at(b.name);
              });
  }

  const ModelDirectory& base_;
  const TensorMap& model_;
  ExportPlan plan_;
  std::map<std::string, ResolvedSource> trained_;
  SlicesOf slices_;
  // With the shape of the model tensor, or of one of those in a stack.
  std::map<const SafetensorsEntry*, std::pair<const DiskSource*, std::vector<int64_t>>>
      dequantized_;
  std::set<const SafetensorsEntry*> dropped_;
};

}  // namespace

QuantizedRule parse_quantized_rule(const std::string& text) {
  if (text == "dequantize") return QuantizedRule::kDequantize;
  if (text == "requantize") return QuantizedRule::kRequantize;
  fail(ErrorCode::kBadArgument, "quantised matrices: expected dequantize or requantize, got `{}`",
       text);
}

bool OutputSlice::is_one_tensor() const {
  if (form != SliceForm::kElements || tensors.size() != 1) return false;
  const TensorInSlice& tensor = tensors[0];
  const auto element = static_cast<int64_t>(size_of(dtype));
  const int64_t row = tensor.base.columns * element;
  return tensor.origin == 0 && tensor.col_stride == element &&
         (tensor.base.rows <= 1 || tensor.row_stride == row) && tensor.base.rows * row == bytes();
}

ExportPlan plan_export(const ModelDirectory& base, const TensorMap& model,
                       const std::vector<std::string>& trained, QuantizedRule rule) {
  return Planner(base, model, trained, rule).plan();
}

}  // namespace sutor
