// sutor diff: prints the differences between two models, adapters or checkpoints.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "checkpoint/compare/tensor_diff.h"
#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "launch/cli/command_line.h"
#include "launch/job/failure.h"
#include "launch/log/metrics_log.h"
#include "launch/model/model_config.h"

namespace po = boost::program_options;
namespace fs = std::filesystem;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "diff",
    "Compares two of: base store, model directory, checkpoint (step-*), adapter. Recorded digests "
    "are\nused where both have them. Trained weights of a checkpoint beside another dtype count as "
    "rounded to\nthe narrower one.\nExit code 0: equal; 1: they differ.",
    "sutor diff A B [--tensors] [--threads N] [--json]",
    "sutor diff base/ DeepSeek-V2-Lite/\n"
    "sutor diff DeepSeek-V2-Lite/ runs/my/export/merged --tensors"};

constexpr TensorChange kDifferences[] = {TensorChange::kValues, TensorChange::kDType,
                                         TensorChange::kShape, TensorChange::kOnlyA,
                                         TensorChange::kOnlyB};

// What the family makes of config.json; nothing for an unknown family, whose files are compared as
// they are.
std::optional<ModelInfo> model_info(const fs::path& path, ArtifactKind kind) {
  if (kind != ArtifactKind::kBaseStore && kind != ArtifactKind::kModelDirectory) return {};
  try {
    return read_model_info(path);
  } catch (const Error& error) {
    if (!is_unsupported_model(error.code())) throw;
    return {};
  }
}

// A or B; cannot be moved, since the set points into the model.
struct Side {
  explicit Side(const fs::path& path)
      : kind(artifact_kind(path)),
        model(model_info(path, kind)),
        set(path, kind, model ? &model->tensors : nullptr) {}
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  ArtifactKind kind;
  std::optional<ModelInfo> model;
  TensorSet set;
};

// Tensors of one kind of difference: experts by layer, the others by name.
struct Grouped {
  std::map<int, std::set<int>> experts;
  std::vector<std::string> others;
};

// A part of a name that is a number of at most six digits.
std::optional<int> number_in(std::string_view part) {
  int number = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
  const bool whole = error == std::errc() && end == part.data() + part.size();
  return whole && number >= 0 && part.size() <= 6 ? std::optional(number) : std::nullopt;
}

// Layer and expert of "...layers.3.mlp.experts.7.up_proj..."; nothing for the name of no expert.
std::optional<std::pair<int, int>> expert_in(std::string_view name) {
  std::optional<int> layer;
  std::string_view before;
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    const std::optional<int> number = number_in(part);
    if (number && before == "layers") layer = number;
    if (number && layer && before == "experts" && end < name.size()) return {{*layer, *number}};
    before = part;
    begin = end + 1;
  }
  return {};
}

Grouped grouped(const SetDiff& diff, TensorChange change) {
  Grouped groups;
  for (const auto& [name, tensor] : diff.tensors) {
    if (tensor.change != change) continue;
    if (const auto expert = expert_in(name)) {
      groups.experts[expert->first].insert(expert->second);
    } else {
      groups.others.push_back(name);
    }
  }
  return groups;
}

// "0-3, 7"
std::string ranges_text(const std::set<int>& numbers) {
  std::string text;
  for (auto at = numbers.begin(); at != numbers.end();) {
    const int first = *at;
    int last = first;
    for (++at; at != numbers.end() && *at == last + 1; ++at) last = *at;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", first);
    if (last == first + 1) text += fmt::format(", {}", last);
    if (last > first + 1) text += fmt::format("-{}", last);
  }
  return text;
}

std::string_view phrase(TensorChange change) {
  switch (change) {
    case TensorChange::kValues:
      return "with other values";
    case TensorChange::kDType:
      return "of another dtype";
    case TensorChange::kShape:
      return "of another shape";
    default:
      return name_of(change);
  }
}

// The dtype and shape of a tensor on one side.
std::string form_text(const TensorSet& set, const std::string& name) {
  const auto at = set.tensors().find(name);
  if (at == set.tensors().end()) return "-";
  return fmt::format("{} {}", at->second.dtype_name, shape_text(at->second.shape));
}

void print_text(const TensorSet& a, const TensorSet& b, const SetDiff& diff, bool tensors) {
  fmt::print("A: {} {}, {} tensors\nB: {} {}, {} tensors\n", name_of(a.kind()), a.path().string(),
             format_count(static_cast<int64_t>(a.tensors().size())), name_of(b.kind()),
             b.path().string(), format_count(static_cast<int64_t>(b.tensors().size())));
  fmt::print("{} equal", format_count(diff.count(TensorChange::kEqual)));
  for (const TensorChange change : kDifferences) {
    if (diff.count(change) > 0) {
      fmt::print(", {} {}", format_count(diff.count(change)), phrase(change));
    }
  }
  fmt::print("\n");
  for (const TensorChange change : kDifferences) {
    if (diff.count(change) == 0) continue;
    fmt::print("{}:\n", phrase(change));
    const Grouped groups = grouped(diff, change);
    const bool forms = change == TensorChange::kDType || change == TensorChange::kShape;
    for (const auto& [layer, experts] : groups.experts) {
      fmt::print("  layer {}: expert{} {}\n", layer, experts.size() == 1 ? "" : "s",
                 ranges_text(experts));
    }
    for (const std::string& name : groups.others) {
      fmt::print("  {}{}\n", name,
                 forms ? fmt::format(": {} -> {}", form_text(a, name), form_text(b, name)) : "");
    }
  }
  if (tensors) {
    for (const auto& [name, tensor] : diff.tensors) {
      if (!tensor.distance) continue;
      fmt::print("{}: max abs {:.6g}, relative {:.6g}\n", name, tensor.distance->max_abs,
                 tensor.distance->relative);
    }
  }
  for (const auto& [name, state] : diff.content) fmt::print("{}: {}\n", name, state);
  if (diff.content_compared && diff.content.empty()) fmt::print("everything else is equal\n");
  if (!diff.content_compared) fmt::print("only tensors can be compared\n");
  fmt::print("weights read: {} of A, {} of B\n", format_bytes(a.read_bytes()),
             format_bytes(b.read_bytes()));
}

nlohmann::ordered_json side_json(const TensorSet& set) {
  return {{"kind", name_of(set.kind())},
          {"path", set.path().string()},
          {"tensors", set.tensors().size()},
          {"read_bytes", set.read_bytes()}};
}

// JSON has no infinities.
nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

std::string to_json(const TensorSet& a, const TensorSet& b, const SetDiff& diff) {
  nlohmann::ordered_json json = {{"equal", diff.equal()}, {"a", side_json(a)}, {"b", side_json(b)}};
  json["equal_tensors"] = diff.count(TensorChange::kEqual);
  json["experts"] = nlohmann::ordered_json::object();
  for (const auto& [layer, experts] : grouped(diff, TensorChange::kValues).experts) {
    json["experts"][std::to_string(layer)] = experts;
  }
  json["tensors"] = nlohmann::ordered_json::array();
  for (const auto& [name, tensor] : diff.tensors) {
    if (tensor.change == TensorChange::kEqual) continue;
    nlohmann::ordered_json item = {{"name", name}, {"change", name_of(tensor.change)}};
    if (tensor.change == TensorChange::kDType || tensor.change == TensorChange::kShape) {
      item["a"] = form_text(a, name);
      item["b"] = form_text(b, name);
    }
    if (tensor.distance) {
      item["max_abs"] = number(tensor.distance->max_abs);
      item["relative"] = number(tensor.distance->relative);
    }
    json["tensors"].push_back(std::move(item));
  }
  json["other_content_compared"] = diff.content_compared;
  json["other_content"] = diff.content;
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

int diff(const Arguments& arguments) {
  po::options_description options(100);
  auto add = options.add_options();
  add("path", po::value<std::vector<std::string>>()->required(), "A and B");
  add("tensors", po::bool_switch(),
      "for every tensor that differs: max abs difference, and the norm of B - A over that of A");
  add("threads", po::value<int>()->default_value(0), "threads that read and compare; 0 = all");
  add("json", po::bool_switch(), "print JSON, with every tensor that differs");
  po::positional_options_description positional;
  positional.add("path", 2);
  const auto values = parse_command_line(kHelp, options, positional, arguments);
  if (!values) return kExitOk;
  const auto paths = (*values)["path"].as<std::vector<std::string>>();
  if (paths.size() != 2) {
    fail(ErrorCode::kBadArgument, "sutor diff takes two paths, got {}. Usage: {}", paths.size(),
         kHelp.usage);
  }
  Side a(existing_path(paths[0])), b(existing_path(paths[1]));
  const bool tensors = (*values)["tensors"].as<bool>();
  const SetDiff found = diff_sets(a.set, b.set, tensors, (*values)["threads"].as<int>());
  if ((*values)["json"].as<bool>()) {
    fmt::print("{}", to_json(a.set, b.set, found));
  } else {
    print_text(a.set, b.set, found, tensors);
  }
  return found.equal() ? kExitOk : kExitCheckFailed;
}

}  // namespace

int verb_diff(const Arguments& arguments) {
  return run_alone([&] { return diff(arguments); });
}

}  // namespace sutor
