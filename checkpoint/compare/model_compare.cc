#include "checkpoint/compare/model_compare.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/files/file_content.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace fs = std::filesystem;

void check_same_files(const ModelDirectory& a, const ModelDirectory& b) {
  const auto names = [](const ModelDirectory& model) {
    std::set<fs::path> names = model.other_files();
    for (const auto& shard : model.shards()) names.insert(shard->name());
    return names;
  };
  const std::set<fs::path> in_a = names(a), in_b = names(b);
  for (const auto& [has, other, model] :
       {std::tuple(&in_a, &in_b, &b), std::tuple(&in_b, &in_a, &a)}) {
    for (const fs::path& file : *has) {
      if (!other->contains(file)) {
        fail(ErrorCode::kNotAsExpected, "{} lacks the file {}", model->path().string(),
             file.string());
      }
    }
  }
}

void check_same_shard(const ModelDirectory& a, const ModelDirectory& b, size_t number,
                      int threads) {
  const ModelShard& shard = *a.shards()[number];
  const ModelShard& other = *b.shards()[number];
  if (shard.size() != other.size() || shard.header_bytes() != other.header_bytes()) {
    fail(ErrorCode::kNotAsExpected, "{}: the header or the size differs from that of {}",
         other.where(), shard.where());
  }
  parallel_tasks(threads, static_cast<int64_t>(shard.tensors().size()), [&](int64_t i) {
    const SafetensorsEntry& entry = shard.tensors()[static_cast<size_t>(i)];
    std::vector<std::byte> there;
    int64_t at = entry.begin;
    shard.stream(entry.begin, entry.end, [&](std::span<const std::byte> chunk) {
      there.resize(chunk.size());
      other.read_at(at, there);
      if (std::memcmp(chunk.data(), there.data(), chunk.size()) != 0) {
        fail(ErrorCode::kNotAsExpected, "{}: tensor `{}` differs from that of {}", other.where(),
             entry.name, shard.where());
      }
      at += static_cast<int64_t>(chunk.size());
    });
  });
}

void check_same_other_file(const ModelDirectory& a, const ModelDirectory& b,
                           const std::string& path) {
  const fs::path in_a = a.files_root() / path, in_b = b.files_root() / path;
  if (same_content(InputFile(in_a), InputFile(in_b))) return;
  fail(ErrorCode::kNotAsExpected, "{} differs from {}", in_b.string(), in_a.string());
}

}  // namespace sutor
