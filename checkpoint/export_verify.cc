// The verifiers that checkpoint/merged_export.h declares.
#include <algorithm>
#include <cstring>

#include "checkpoint/export_plan.h"
#include "checkpoint/file_content.h"
#include "checkpoint/hf_directory.h"
#include "checkpoint/merged_export.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

struct Comparison {
  bool equal = true;
  Digest second;  // of the second file's bytes
};

// Compares the same bytes of two shards.
Comparison compare(const ModelShard& a, const ModelShard& b, int64_t begin, int64_t end) {
  Comparison result;
  Hasher hasher;
  std::vector<std::byte> other;
  int64_t at = begin;
  a.stream(begin, end, [&](std::span<const std::byte> piece) {
    other.resize(piece.size());
    b.read_at(at, other);
    result.equal = result.equal && std::memcmp(piece.data(), other.data(), piece.size()) == 0;
    hasher.update(other);
    at += static_cast<int64_t>(piece.size());
  });
  result.second = hasher.digest();
  return result;
}

[[noreturn]] void fail_equal(const std::string& name, const std::string& where) {
  fail(102,
       "{}: tensor `{}` was to be trained but equals the base bit for bit. Did it get any token, "
       "and "
       "is the learning rate large enough for the stored dtype?",
       where, name);
}

void check_trained(const std::string& name, const Digest& expected, const Comparison& found,
                   const std::string& where) {
  if (found.second != expected) {
    fail(101, "{}: tensor `{}` is {}, but the trained values are {}", where, name,
         found.second.text(), expected.text());
  }
  if (found.equal) fail_equal(name, where);
}

// One stored tensor of the base beside the same one of the export.
void verify_stored(const SafetensorsEntry& entry, const ModelShard& base, const ModelShard& merged,
                   const std::vector<TrainedRange>& ranges,
                   const std::map<std::string, Digest>& changed, VerifyReport& report) {
  const auto untouched = [&](int64_t begin, int64_t end) {
    if (compare(base, merged, begin, end).equal) return;
    fail(101, "{}: tensor `{}` was not trained but differs from the base", merged.where(),
         entry.name);
  };
  int64_t at = entry.begin;
  for (const TrainedRange& range : ranges) {
    if (range.begin < entry.begin || range.end > entry.end) continue;
    untouched(at, range.begin);
    const Comparison found = compare(base, merged, range.begin, range.end);
    check_trained(range.name, changed.at(range.name), found, merged.where());
    ++report.changed;
    at = range.end;
  }
  untouched(at, entry.end);
  if (at == entry.begin) ++report.identical;
}

VerifyReport verify_shard(const ModelShard& base, const fs::path& path,
                          const std::vector<TrainedRange>& ranges,
                          const std::map<std::string, Digest>& changed) {
  if (!fs::exists(path)) fail(101, "{} is missing", path.string());
  const SafetensorsShard merged(path);
  if (merged.size() != base.size() || merged.header_bytes() != base.header_bytes()) {
    fail(101, "{}: the header or the size differs from that of {}", path.string(), base.where());
  }
  std::vector<VerifyReport> reports(base.tensors().size());
  parallel_tasks(0, static_cast<int64_t>(reports.size()), [&](int64_t i) {
    verify_stored(base.tensors()[i], base, merged, ranges, changed, reports[i]);
  });
  VerifyReport sum;
  for (const VerifyReport& report : reports) {
    sum.changed += report.changed;
    sum.identical += report.identical;
  }
  return sum;
}

void verify_other_files(const ModelDirectory& base, const fs::path& merged,
                        const std::set<fs::path>& expected, bool anything_trained) {
  for (const fs::path& file : expected) {
    if (!fs::exists(merged / file)) fail(101, "{} is missing", (merged / file).string());
    const fs::path original = base.files_root() / file;
    if (!same_content(InputFile(original), InputFile(merged / file))) {
      fail(101, "{} differs from {}", (merged / file).string(), original.string());
    }
  }
  std::set<fs::path> known = expected;
  for (const auto& shard : base.shards()) known.insert(shard->name());
  if (anything_trained) known.insert(kMergedInfoFile);
  for (const fs::path& file : files_below(merged)) {
    if (!known.count(file)) fail(101, "{} is not in the base", (merged / file).string());
  }
}

}  // namespace

VerifyReport verify_merged(const ModelDirectory& base, const TensorMap& model,
                           const fs::path& merged, const std::map<std::string, Digest>& changed) {
  std::vector<std::string> names;
  for (const auto& [name, digest] : changed) names.push_back(name);
  const auto ranges = trained_ranges(base, model, names);
  VerifyReport report;
  for (size_t i = 0; i < base.shards().size(); ++i) {
    const ModelShard& shard = *base.shards()[i];
    const VerifyReport part = verify_shard(shard, merged / shard.name(), ranges[i], changed);
    report.changed += part.changed;
    report.identical += part.identical;
  }
  const std::set<fs::path> others = copied_files(base, !changed.empty());
  verify_other_files(base, merged, others, !changed.empty());
  report.other_files = static_cast<int64_t>(others.size());
  return report;
}

VerifyReport verify_adapter(const ModelDirectory& base, const TensorMap& model,
                            const Adapter& adapter, const std::map<std::string, Digest>& changed) {
  adapter.check_base(base.digest(), base.path().string());
  for (const auto& [name, stored] : adapter.tensors()) {
    if (!changed.count(name)) {
      fail(101, "{}: tensor `{}` was not trained", stored.file->where(), name);
    }
  }
  std::vector<TrainedTensor> tensors = adapter.trained_tensors();
  const std::map<std::string, Digest> found = stored_digests(tensors);
  for (const auto& [name, digest] : changed) {
    const auto at = found.find(name);
    if (at == found.end()) {
      fail(101, "{}: the trained tensor `{}` is missing", adapter.path().string(), name);
    }
    if (at->second != digest) {
      fail(101, "{}: tensor `{}` is {}, but the trained values are {}", adapter.path().string(),
           name, at->second.text(), digest.text());
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
