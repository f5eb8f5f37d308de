#include "checkpoint/export/merged_export.h"

#include <algorithm>

#include "checkpoint/export/copied_files.h"
#include "checkpoint/export/export_config.h"
#include "checkpoint/export/export_slices.h"
#include "checkpoint/format/manifest_json.h"
#include "checkpoint/huggingface/end_tokens.h"
#include "checkpoint/huggingface/stored_bytes.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/parallel.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int kShardsAtOnce = 4;  // each may hold a piece that is made

// With the layout of the base: the bytes between slices that are made anew are copied in one go.
RecordedFile write_in_place(const OutputShard& shard, SliceBuilder& builder, const fs::path& to) {
  const ModelShard& base = *shard.base;
  RecordedOutput target(to);
  const auto append = [&](std::span<const std::byte> bytes) { target.append(bytes); };
  target.reserve(base.size());
  const std::string header = base.header_bytes();
  target.append(std::as_bytes(std::span(header)));
  int64_t at = base.header().data_begin;
  for (const OutputTensor& tensor : shard.tensors) {
    for (const OutputSlice& slice : tensor.slices) {
      if (slice.form == SliceForm::kCopied) continue;
      base.stream(at, tensor.base.entry->begin + slice.begin, append);
      builder.make(tensor, slice, append);
      at = tensor.base.entry->begin + slice.end;
      SUTOR_ASSERT(target.written() == at);
    }
  }
  base.stream(at, base.size(), append);
  return target.finish(base.name());
}

RecordedFile write_anew(const OutputShard& shard, SliceBuilder& builder, const fs::path& to) {
  std::vector<SafetensorsDeclaration> declarations;
  for (const OutputTensor& tensor : shard.tensors) {
    declarations.push_back({tensor.name, tensor.dtype_name, tensor.shape});
  }
  SafetensorsWriter writer(to, declarations, shard.base->header().metadata);
  for (const OutputTensor& tensor : shard.tensors) {
    for (const OutputSlice& slice : tensor.slices) {
      builder.make(tensor, slice, [&](std::span<const std::byte> bytes) { writer.append(bytes); });
    }
  }
  const Digest digest = writer.finish();
  return {shard.base->name(), writer.file_bytes(), digest};
}

nlohmann::json rounding_json(const RoundingReport& report) {
  const RoundingSums total = report.total();
  const std::string largest = report.largest();
  return {{"rule", report.rule == QuantizedRule::kRequantize ? "requantize" : "dequantize"},
          {"tensors", report.tensors.size()},
          {"relative_error", total.relative_error()},
          {"relative_update", total.relative_update()},
          {"largest_error",
           {{"tensor", largest},
            {"relative_error", report.tensors.at(largest).relative_error()},
            {"relative_update", report.tensors.at(largest).relative_update()}}},
          {"unchanged", report.unchanged}};
}

void write_info(const MergedExport& result, const ExportOrigin& origin,
                std::vector<RecordedFile> files, const fs::path& to) {
  nlohmann::json info = {{"format", kMergedFormat},
                         {"format_version", kMergedExportVersion},
                         {"base_digest", origin.base_digest},
                         {"provenance", origin.provenance},
                         {"tensors", nlohmann::json::object()}};
  if (origin.base_config.is_object()) info["base_config"] = origin.base_config;
  if (!origin.end_tokens.empty()) info["end_tokens"] = origin.end_tokens;
  for (const auto& [name, digest] : result.digests) info["tensors"][name] = digest.text();
  if (!result.left_out.empty()) info["left_out"] = result.left_out;
  if (!result.rounding.empty()) info["quantized"] = rounding_json(result.rounding);
  write_new_file(to, encode_file_list(std::move(info), std::move(files)));
}

MergedExport result_of(const SliceBuilder& builder, const ModelDirectory& base,
                       const TensorMap& model, QuantizedRule rule) {
  MergedExport result;
  result.rounding.rule = rule;
  for (const auto& [name, record] : builder.records()) {
    result.digests[name] = record.digest;
    if (!record.rounding) continue;
    result.rounding.tensors[name] = *record.rounding;
    const TensorEntry& entry = *model.find(name);
    if (rule == QuantizedRule::kRequantize &&
        stored_digest(base, entry, *base.resolve(entry)) == record.digest) {
      result.rounding.unchanged.push_back(name);
    }
  }
  return result;
}

}  // namespace

RoundingSums RoundingReport::total() const {
  RoundingSums sums;
  for (const auto& [name, of_tensor] : tensors) sums.add(of_tensor);
  return sums;
}

std::string RoundingReport::largest() const {
  const auto at =
      std::max_element(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
        return a.second.relative_error() < b.second.relative_error();
      });
  return at == tensors.end() ? "" : at->first;
}

bool RoundingReport::exceeds_update() const {
  const RoundingSums sums = total();
  return sums.error > sums.update;
}

std::optional<MergedInfo> read_merged_info(const fs::path& directory) {
  const fs::path file = directory / kMergedInfoFile;
  if (!is_there(file)) return std::nullopt;
  const std::string where = file.string();
  const nlohmann::json body = parse_file_list(read_file(file, kMaxManifestBytes), where,
                                              kMergedFormat, kMergedExportVersion);
  if (!body.is_object() || !body.contains("tensors") || !body["tensors"].is_object()) {
    fail(ErrorCode::kBrokenFile, "{}: it does not list `tensors`", where);
  }
  MergedInfo info;
  info.end_tokens = end_tokens_of(body, "end_tokens");
  for (const auto& [name, digest] : body["tensors"].items()) {
    if (!digest.is_string()) {
      fail(ErrorCode::kBrokenFile, "{}: the digest of `{}` is not a string", where, name);
    }
    info.tensors[name] = parse_digest(digest.get<std::string>(), where);
  }
  return info;
}

MergedExport export_merged(const ModelDirectory& base, const TensorMap& model,
                           std::vector<TrainedTensor> trained, const fs::path& directory,
                           const ExportOrigin& origin, QuantizedRule rule) {
  store_as_base(trained, base, model);
  std::vector<std::string> names;
  for (const TrainedTensor& tensor : trained) names.push_back(tensor.name);
  const ExportPlan plan = plan_export(base, model, names, rule);
  ThreadTeam team(/*threads=*/0);
  SliceBuilder builder(base, trained, team);
  make_directory(directory);
  std::vector<RecordedFile> files(plan.shards.size());
  team.run(kShardsAtOnce, static_cast<int64_t>(plan.shards.size()), [&](int64_t i) {
    const OutputShard& shard = plan.shards[static_cast<size_t>(i)];
    const fs::path to = directory / shard.base->name();
    files[static_cast<size_t>(i)] =
        (shard.same_header ? write_in_place : write_anew)(shard, builder, to);
  });
  const auto rewritten =
      rewritten_files(base, plan, trained.empty() ? std::set<int64_t>{} : origin.end_tokens);
  const CopiedFiles others = copied_files(base, !trained.empty(), plan.new_headers());
  for (const fs::path& file : others.copied) {
    if (rewritten.contains(file.generic_string())) continue;
    files.push_back(copy_recorded(base.files_root() / file, directory, file.generic_string()));
  }
  for (const auto& [file, text] : rewritten) {
    files.push_back(write_recorded(directory, file, text));
  }
  MergedExport result = result_of(builder, base, model, rule);
  for (const fs::path& file : others.left_out) result.left_out.push_back(file.generic_string());
  if (!trained.empty()) {
    write_info(result, origin, std::move(files), directory / kMergedInfoFile);
  }
  return result;
}

}  // namespace sutor
