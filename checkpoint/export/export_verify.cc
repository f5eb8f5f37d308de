// The verifiers that checkpoint/export/merged_export.h declares.
#include <algorithm>
#include <cstring>

#include "checkpoint/export/copied_files.h"
#include "checkpoint/export/export_config.h"
#include "checkpoint/export/export_plan.h"
#include "checkpoint/export/merged_export.h"
#include "checkpoint/files/byte_comparison.h"
#include "checkpoint/files/file_content.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/huggingface/stored_bytes.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail_equal(const std::string& name, const std::string& where) {
  fail(ErrorCode::kTrainedEqualsBase,
       "{}: tensor `{}` should be trained but equals the base bit for bit. Did it get any token, "
       "and is the learning rate large enough for the stored dtype?",
       where, name);
}

[[noreturn]] void fail_untrained(const std::string& name, const std::string& where) {
  fail(ErrorCode::kNotAsExpected, "{}: tensor `{}` was not trained but differs from the base",
       where, name);
}

// Whether two files have the same bytes at these offsets.
bool same_bytes(const ModelShard& a, int64_t in_a, const ModelShard& b, int64_t in_b,
                int64_t bytes) {
  ByteComparison comparison(
      [&](int64_t offset, std::span<std::byte> into) { b.read_at(offset, into); }, in_b);
  a.stream(in_a, in_a + bytes, [&](std::span<const std::byte> found) { comparison.add(found); });
  return comparison.equal();
}

Digest values_digest(const ModelDirectory& directory, const TensorEntry& entry, DType dtype) {
  Hasher hasher;
  stream_values(directory, entry, dtype,
                [&](std::span<const std::byte> bytes) { hasher.update(bytes); });
  return hasher.digest();
}

// Whether the slice has what belongs to elements in another one.
bool is_beside(SliceForm form) {
  return form == SliceForm::kScales || form == SliceForm::kZeroPoints ||
         form == SliceForm::kMxfp4Scales;
}

// Zeroes the tensor's bytes in the slice.
void blank(const OutputSlice& slice, const TensorInSlice& tensor, std::vector<std::byte>& bytes) {
  const bool elements = slice.form == SliceForm::kElements;
  const int64_t columns = tensor.base.columns;
  const auto size = static_cast<int64_t>(size_of(slice.dtype));
  const bool by_row = !elements || tensor.col_stride == size;
  int64_t run = size;
  if (slice.form == SliceForm::kMxfp4) run = columns / 2;
  if (slice.form == SliceForm::kMxfp4Scales) run = columns / kMxfp4Group;
  if (elements && by_row) run = columns * size;
  for (int64_t r = 0; r < tensor.base.rows; ++r) {
    std::byte* const row = bytes.data() + tensor.origin + r * tensor.row_stride;
    for (int64_t c = 0; c < (by_row ? 1 : columns); ++c) {
      std::memset(row + c * tensor.col_stride, 0, static_cast<size_t>(run));
    }
  }
}

class Verifier {
 public:
  Verifier(const ModelDirectory& base, const ModelDirectory& merged,
           const std::map<std::string, Digest>& changed, QuantizedRule rule)
      : base_(base), merged_(merged), changed_(changed), rule_(rule) {}

  // Compares a tensor of the export with what it was made from.
  VerifyReport verify(const OutputTensor& tensor) const {
    const StoredTensor found = *merged_.find(tensor.name);
    VerifyReport report;
    bool trained = false;
    for (const OutputSlice& slice : tensor.slices) {
      if (slice.form == SliceForm::kCopied) {
        const SafetensorsEntry& entry = *tensor.base.entry;
        if (!same_bytes(*tensor.base.file, entry.begin + slice.begin, *found.file,
                        found.entry->begin + slice.begin, slice.bytes())) {
          fail_untrained(tensor.name, found.file->where());
        }
        continue;
      }
      if (slice.over_base) check_between(tensor, slice, found);
      for (const TensorInSlice& contained : slice.tensors) {
        check_tensor(slice, contained, found);
        trained = trained || contained.trained;
        // The scales belong to the tensor that their elements stand for, which counts once.
        if (contained.trained && !is_beside(slice.form) && !contained.again) ++report.changed;
      }
    }
    if (tensor.dequantized) ++report.dequantized;
    if (!tensor.dequantized && !trained) ++report.identical;
    return report;
  }

 private:
  // Checks the bytes of the slice that belong to no tensor.
  void check_between(const OutputTensor& tensor, const OutputSlice& slice,
                     const StoredTensor& found) const {
    const bool filled = slice.is_one_tensor() || slice.form == SliceForm::kCodes ||
                        slice.form == SliceForm::kScales || slice.form == SliceForm::kZeroPoints;
    if (filled) return;
    std::vector<std::byte> ours(static_cast<size_t>(slice.bytes())), theirs(ours.size());
    found.file->read_at(found.entry->begin + slice.begin, ours);
    tensor.base.file->read_at(tensor.base.entry->begin + slice.begin, theirs);
    for (const TensorInSlice& contained : slice.tensors) {
      blank(slice, contained, ours);
      blank(slice, contained, theirs);
    }
    if (ours != theirs) fail_untrained(tensor.name, found.file->where());
  }

  void check_tensor(const OutputSlice& slice, const TensorInSlice& contained,
                    const StoredTensor& stored) const {
    const TensorEntry& entry = *contained.entry;
    if (is_beside(slice.form)) return;  // checked with the elements
    auto found = merged_.resolve(entry);
    SUTOR_ASSERT(found);
    if (contained.again) found = found->moved_to(stored);
    SUTOR_ASSERT(found->stored.entry == stored.entry);
    const Digest digest = stored_digest(merged_, entry, *found);
    const bool elements = slice.form == SliceForm::kElements;
    if (!contained.trained) {
      if (digest == values_digest(base_, entry, slice.dtype)) return;
      fail(ErrorCode::kNotAsExpected, "{}: tensor `{}` is not the base's dequantised one",
           stored.file->where(), entry.name);
    }
    const Digest& expected = changed_.at(entry.name);
    if (digest != expected) {
      fail(ErrorCode::kNotAsExpected, "{}: tensor `{}` is {}, but the trained values are {}",
           stored.file->where(), entry.name, digest.text(), expected.text());
    }
    const bool quantized = contained.base.encoding != Encoding::kPlain;
    if (quantized && rule_ == QuantizedRule::kRequantize) return;
    const Digest before = quantized && elements ? values_digest(base_, entry, slice.dtype)
                                                : stored_digest(base_, entry, contained.base);
    if (digest == before) fail_equal(entry.name, stored.file->where());
  }

  const ModelDirectory& base_;
  const ModelDirectory& merged_;
  const std::map<std::string, Digest>& changed_;
  QuantizedRule rule_;
};

void verify_header(const OutputShard& shard, const fs::path& path) {
  if (!is_there(path)) fail(ErrorCode::kNotAsExpected, "{} is missing", path.string());
  const SafetensorsShard merged(path);
  bool same = shard.same_header;
  if (shard.same_header) {
    same =
        merged.size() == shard.base->size() && merged.header_bytes() == shard.base->header_bytes();
  } else {
    const auto& found = merged.tensors();
    same =
        merged.header().metadata == shard.base->header().metadata &&
        std::equal(found.begin(), found.end(), shard.tensors.begin(), shard.tensors.end(),
                   [](const SafetensorsEntry& a, const OutputTensor& b) {
                     return a.name == b.name && a.dtype_name == b.dtype_name && a.shape == b.shape;
                   });
  }
  if (!same) {
    fail(ErrorCode::kNotAsExpected, "{}: the header or the size differs from {}{}", path.string(),
         shard.same_header ? "" : "that planned for ", shard.base->where());
  }
}

void verify_other_files(const ModelDirectory& base, const fs::path& merged,
                        const std::set<fs::path>& copied,
                        const std::map<std::string, std::string>& rewritten,
                        bool anything_trained) {
  std::set<fs::path> known = copied;
  for (const fs::path& file : copied) {
    if (!is_there(merged / file)) {
      fail(ErrorCode::kNotAsExpected, "{} is missing", (merged / file).string());
    }
    const fs::path original = base.files_root() / file;
    if (!same_content(InputFile(original), InputFile(merged / file))) {
      fail(ErrorCode::kNotAsExpected, "{} differs from {}", (merged / file).string(),
           original.string());
    }
  }
  for (const auto& [file, text] : rewritten) {
    known.insert(file);
    if (!is_there(merged / file)) {
      fail(ErrorCode::kNotAsExpected, "{} is missing", (merged / file).string());
    }
    if (read_file(merged / file, kMaxIndexFileBytes) != text) {
      fail(ErrorCode::kNotAsExpected, "{} is not the one planned for the base {}",
           (merged / file).string(), base.path().string());
    }
  }
  for (const auto& shard : base.shards()) known.insert(shard->name());
  if (anything_trained) known.insert(kMergedInfoFile);
  for (const fs::path& file : files_below(merged)) {
    if (!known.count(file)) {
      fail(ErrorCode::kNotAsExpected, "{} is not in the base", (merged / file).string());
    }
  }
}

}  // namespace

VerifyReport verify_merged(const ModelDirectory& base, const TensorMap& model,
                           const fs::path& merged, const std::map<std::string, Digest>& changed,
                           QuantizedRule rule) {
  std::vector<std::string> names;
  for (const auto& [name, digest] : changed) names.push_back(name);
  const ExportPlan plan = plan_export(base, model, names, rule);
  std::vector<const OutputTensor*> tensors;
  for (const OutputShard& shard : plan.shards) {
    verify_header(shard, merged / shard.base->name());
    for (const OutputTensor& tensor : shard.tensors) tensors.push_back(&tensor);
  }
  const std::optional<MergedInfo> info = read_merged_info(merged);
  const auto rewritten = rewritten_files(base, plan, info ? info->end_tokens : std::set<int64_t>{});
  auto copied = copied_files(base, !changed.empty(), plan.new_headers()).copied;
  for (const auto& [file, text] : rewritten) copied.erase(file);
  verify_other_files(base, merged, copied, rewritten, !changed.empty());
  const HfDirectory directory(merged);
  const Verifier verifier(base, directory, changed, rule);
  std::vector<VerifyReport> reports(tensors.size());
  parallel_tasks(0, static_cast<int64_t>(tensors.size()),
                 [&](int64_t i) { reports[i] = verifier.verify(*tensors[i]); });
  VerifyReport sum;
  for (const VerifyReport& report : reports) {
    sum.changed += report.changed;
    sum.identical += report.identical;
    sum.dequantized += report.dequantized;
  }
  sum.other_files = static_cast<int64_t>(copied.size() + rewritten.size());
  return sum;
}

VerifyReport verify_adapter(const ModelDirectory& base, const TensorMap& model,
                            const Adapter& adapter, const std::map<std::string, Digest>& changed) {
  adapter.check_base(base.digest(), base.path().string());
  for (const auto& [name, stored] : adapter.tensors()) {
    if (!changed.count(name)) {
      fail(ErrorCode::kNotAsExpected, "{}: tensor `{}` was not trained", stored.file->where(),
           name);
    }
  }
  std::vector<TrainedTensor> tensors = adapter.trained_tensors();
  const std::map<std::string, Digest> found = stored_digests(tensors);
  for (const auto& [name, digest] : changed) {
    const auto at = found.find(name);
    if (at == found.end()) {
      fail(ErrorCode::kNotAsExpected, "{}: the trained tensor `{}` is missing",
           adapter.path().string(), name);
    }
    if (at->second != digest) {
      fail(ErrorCode::kNotAsExpected, "{}: tensor `{}` is {}, but the trained values are {}",
           adapter.path().string(), name, at->second.text(), digest.text());
    }
  }
  // In the base's dtype, so that a mere change of dtype does not pass for training.
  store_as_base(tensors, base, model);
  parallel_tasks(0, static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    if (equals_base(tensors[i], base, *model.find(tensors[i].name))) {
      fail_equal(tensors[i].name, adapter.path().string());
    }
  });
  return {.changed = static_cast<int64_t>(tensors.size())};
}

}  // namespace sutor
