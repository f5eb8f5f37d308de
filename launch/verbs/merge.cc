// sutor merge: merges several adapters onto one base, to a model directory or to one adapter.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/export/merged_export.h"
#include "checkpoint/huggingface/base_config.h"
#include "csrc/base/error.h"
#include "csrc/base/owner/staged_directory.h"
#include "csrc/base/text/json.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/convert/rounding_report.h"
#include "launch/job/failure.h"
#include "launch/model/adapter_merge.h"
#include "launch/model/model_source.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "merge",
    "Merges several adapters onto one base, to a full model directory or to one adapter. Reports "
    "experts that more than one adapter trained, and refuses them unless --conflicts says what "
    "becomes of them.",
    "sutor merge --base DIR --adapter DIR --adapter DIR... --out DIR [--format merged|adapter] "
    "[--conflicts refuse|first|last|add] [--quantized dequantize|requantize] [--verify] [--json]",
    "sutor merge --base model/ --adapter intent/ --adapter law/ --out both/ --verify\n"
    "sutor merge --base model/ --adapter a/ --adapter b/ --conflicts add --format adapter --out "
    "ab/"};

// "layer 3: experts 5, 9; layer 4: expert 0", and the names of other tensors.
std::string describe(const std::vector<MergeConflict>& conflicts, const TensorMap& model) {
  std::map<int, std::set<int>> experts;
  std::vector<std::string> parts, others;
  for (const MergeConflict& conflict : conflicts) {
    const TensorEntry& entry = *model.find(conflict.name);
    if (entry.expert >= 0) {
      experts[entry.layer].insert(entry.expert);
    } else {
      others.push_back(conflict.name);
    }
  }
  for (const auto& [layer, ids] : experts) {
    parts.push_back(fmt::format("layer {}: {} {}", layer, ids.size() > 1 ? "experts" : "expert",
                                fmt::join(ids, ", ")));
  }
  parts.insert(parts.end(), others.begin(), others.end());
  return fmt::format("{}", fmt::join(parts, "; "));
}

nlohmann::json report_json(const std::vector<MergeConflict>& conflicts,
                           const std::vector<Overlay>& adapters) {
  nlohmann::json list = nlohmann::json::array();
  for (const MergeConflict& conflict : conflicts) {
    nlohmann::json names = nlohmann::json::array();
    for (const size_t adapter : conflict.adapters) names.push_back(adapters[adapter].name());
    list.push_back({{"tensor", conflict.name}, {"adapters", names}});
  }
  nlohmann::json sizes = nlohmann::json::object();
  for (const Overlay& adapter : adapters) sizes[adapter.name()] = adapter.tensors().size();
  return {{"adapters", sizes}, {"conflicts", list}};
}

struct MergeJob {
  std::string base, out, format, conflicts, quantized;
  std::vector<std::string> adapters;
  bool verify = false, json = false;
};

void write(const MergeJob& job, const ModelSource& source, std::vector<TrainedTensor> tensors,
           const ExportOrigin& origin) {
  store_as_base(tensors, source.directory, source.info.tensors);
  StagedDirectory staged(job.out);
  if (job.format == "adapter") {
    std::vector<const Overlay*> adapters;
    for (const Overlay& adapter : source.adapters) adapters.push_back(&adapter);
    write_adapter(staged.path(), tensors, merged_config(adapters), origin);
    if (job.verify) {
      verify_adapter(source.directory, source.info.tensors, Adapter(staged.path()),
                     stored_digests(tensors));
    }
    return staged.publish();
  }
  const QuantizedRule rule = parse_quantized_rule(job.quantized);
  const MergedExport merged = export_merged(source.directory, source.info.tensors,
                                            std::move(tensors), staged.path(), origin, rule);
  if (!job.json) {
    print_rounding(merged.rounding);
    print_left_out(merged);
  }
  if (job.verify) {
    verify_merged(source.directory, source.info.tensors, staged.path(), merged.digests, rule);
  }
  staged.publish();
}

int run_merge(const MergeJob& job, const nlohmann::json& provenance) {
  const ConflictRule rule = parse_conflict_rule(job.conflicts);
  parse_quantized_rule(job.quantized);  // before anything is read
  if (job.format != "merged" && job.format != "adapter") {
    fail(ErrorCode::kBadArgument, "--format: expected merged or adapter, got `{}`", job.format);
  }
  const ModelSource source(job.base, job.adapters);
  source.examine();
  const Digest base = source.directory.digest();
  for (const Overlay& adapter : source.adapters) {
    adapter.check_base(base, job.base);
    adapter.check_content(/*threads=*/0);
    warn_of_base_config(adapter);
  }
  const std::vector<MergeConflict> conflicts = find_conflicts(source.adapters);
  if (job.json) {
    fmt::print("{}\n", dump_json(report_json(conflicts, source.adapters), 2));
  } else {
    for (const Overlay& adapter : source.adapters) {
      fmt::print("adapter  {}: {} tensors\n", adapter.name(), adapter.tensors().size());
    }
    fmt::print("conflicts {}{}\n", conflicts.size(),
               conflicts.empty() ? ": no two adapters change the same tensor"
                                 : " tensors: " + describe(conflicts, source.info.tensors));
  }
  if (!conflicts.empty() && rule == ConflictRule::kRefuse) {
    fail(ErrorCode::kMergeConflict,
         "{} tensors are changed by more than one adapter ({}). Say --conflicts first, last or add "
         "(the sum of the changes), or train on disjoint experts.",
         conflicts.size(), describe(conflicts, source.info.tensors));
  }
  std::vector<TrainedTensor> tensors =
      merge_adapters(source.adapters, conflicts, rule, [&](ShardedTensor& rows) {
        source.directory.load(*source.info.tensors.find(rows.name), rows);
      });
  const size_t count = tensors.size();
  std::set<int64_t> ends;
  for (const Overlay& adapter : source.adapters) ends.merge(adapter.end_tokens());
  write(job, source, std::move(tensors),
        {base.text(), provenance, computing_config(source.directory.config()), ends});
  if (!job.json) {
    fmt::print("wrote {}: {} tensors of {} adapters{}\n", job.out, count, source.adapters.size(),
               job.verify ? ", verified" : "");
  }
  return kExitOk;
}

}  // namespace

int verb_merge(const Arguments& arguments) {
  po::options_description options(100);
  auto add = options.add_options();
  add("base", po::value<std::string>()->required(), "model directory or base store");
  add("adapter", po::value<std::vector<std::string>>()->composing()->required(),
      "adapter; repeat it, the order counts for first and last");
  add("out", po::value<std::string>()->required(), "directory to write");
  add("format", po::value<std::string>()->default_value("merged"), "merged or adapter");
  add("conflicts", po::value<std::string>()->default_value("refuse"),
      "tensors of several adapters: refuse, first, last, or add (the sum of the changes)");
  add("quantized", po::value<std::string>()->default_value("dequantize"),
      "trained matrices that are quantised in the base, in a merged model: dequantize (with all "
      "experts of their layer) or requantize");
  add("verify", po::bool_switch(), "compare what was written, tensor by tensor");
  add("json", po::bool_switch(), "print the report as JSON");
  return run_alone([&] {
    const auto values = parse_command_line(kHelp, options, {}, arguments);
    if (!values) return static_cast<int>(kExitOk);
    MergeJob job;
    job.base = (*values)["base"].as<std::string>();
    job.adapters = (*values)["adapter"].as<std::vector<std::string>>();
    job.out = (*values)["out"].as<std::string>();
    job.format = (*values)["format"].as<std::string>();
    job.conflicts = (*values)["conflicts"].as<std::string>();
    job.quantized = (*values)["quantized"].as<std::string>();
    job.verify = (*values)["verify"].as<bool>();
    job.json = (*values)["json"].as<bool>();
    return run_merge(job, provenance("merge", arguments));
  });
}

}  // namespace sutor
