// sutor plan: what a recipe, or a layout of ranks, takes and means, without starting any.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/layout_arguments.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/cli/verb.h"
#include "launch/job/failure.h"
#include "launch/plan/plan_placement.h"
#include "launch/verbs/plan_recipe.h"
#include "parallel_state/layout/rank_layout.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "plan",
    "Says what a training takes of memory, disk and time, without weights, ranks or a GPU; exit "
    "code 1 when it does not fit. --groups: process groups of a layout, in Megatron-Core's order. "
    "--placement: how evenly expert work is distributed over the expert-parallel ranks.",
    "sutor plan RECIPE [--ranks N] [--device-memory 24GiB] [--measured RUN|RATE] [--json] | sutor "
    "plan --groups [--world N] [--tp N] ... | sutor plan --placement --scores PATH --config FILE "
    "--ep N",
    "sutor plan my.yaml --ranks 8 --device-memory 80GiB --measured runs/before\n"
    "sutor plan --groups --world 16 --tp 2 --cp 2 --pp 2 --ep 4"};

// Megatron's name of a group, and RankLayout's where it differs.
struct GroupName {
  const char* shown;
  const char* layout = shown;
};
constexpr std::array kGroups = {
    GroupName{"dp-cp"}, GroupName{"dp"},       GroupName{"cp"},        GroupName{"mp(tp-pp)", "mp"},
    GroupName{"tp"},    GroupName{"pp"},       GroupName{"embd"},      GroupName{"pos_embd"},
    GroupName{"tp-cp"}, GroupName{"tp-dp-cp"}, GroupName{"tp-dp"},     GroupName{"ep"},
    GroupName{"etp"},   GroupName{"etp-ep"},   GroupName{"etp-ep-pp"}, GroupName{"edp"}};

using Groups = std::vector<std::vector<int>>;

// All groups of a kind, or the one of `rank`.
Groups groups_of(const RankLayout& layout, const GroupName& name, std::optional<int> rank) {
  if (!rank) return layout.groups(name.layout);
  const std::vector<int> group = layout.group_of(name.layout, *rank);
  return group.empty() ? Groups{} : Groups{group};
}

nlohmann::ordered_json to_json(const RankLayout& layout, std::optional<int> rank) {
  nlohmann::ordered_json json = {{"layout", layout.describe()},
                                 {"sizes", {{"dp", layout.dp()}, {"edp", layout.edp()}}}};
  if (rank) json["rank"] = *rank;
  for (const GroupName& name : kGroups) {
    json["groups"][name.shown] = groups_of(layout, name, rank);
  }
  return json;
}

void print_table(const RankLayout& layout, std::optional<int> rank) {
  fmt::print("{}\n", layout.describe());
  for (const GroupName& name : kGroups) {
    std::string line;
    for (const std::vector<int>& group : groups_of(layout, name, rank)) {
      line += fmt::format(" [{}]", fmt::join(group, " "));
    }
    fmt::print("  {:<10}{}\n", name.shown, line.empty() ? " none" : line);
  }
}

PlacementRequest placement_request(const po::variables_map& values) {
  const auto number = [&](const char* name) { return values[name].as<int>(); };
  PlacementRequest request{.scores = values["scores"].as<std::string>(),
                           .config = values["config"].as<std::string>(),
                           .ep = number("ep"),
                           .replicas = number("replicas"),
                           .groups = number("router-groups"),
                           .halves = values["halves"].as<bool>(),
                           .json = values["json"].as<bool>()};
  if (request.replicas < 0) {
    fail(ErrorCode::kBadArgument, "sutor plan: --replicas is {}.", request.replicas);
  }
  return request;
}

}  // namespace

int verb_plan(const Arguments& arguments) {
  return run_alone([&]() -> int {
    po::options_description options;
    po::positional_options_description positional;
    add_recipe_options(options, positional);
    add_plan_recipe_options(options);
    auto add = options.add_options();
    add("groups", po::bool_switch(), "the process groups");
    add("placement", po::bool_switch(), "contiguous and balanced placement of experts");
    add_layout_options(options);
    add("scores", po::value<std::string>()->default_value(""),
        "with --placement: scores.h5, summary.json, or a folder of records");
    add("config", po::value<std::string>()->default_value(""),
        "with --placement: the expert config (JSON), numbered as the scores are");
    add("replicas", po::value<int>()->default_value(0),
        "with --placement: how many of a layer's most used frozen experts every rank has");
    add("router-groups", po::value<int>()->default_value(1),
        "with --placement: groups of a group-limited router, which stay together");
    add("halves", po::bool_switch(),
        "with --placement: choose by the first half of the records' tokens, evaluate on the "
        "second");
    add("rank", po::value<int>(), "only the groups of this rank");
    add("json", po::bool_switch(), "print JSON and nothing else");
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const bool groups = (*values)["groups"].as<bool>();
    const bool placement = (*values)["placement"].as<bool>();
    if (int{groups} + int{placement} + int{values->count("recipe") > 0} != 1) {
      fail(ErrorCode::kBadArgument,
           "sutor plan: name a recipe, or give --groups or --placement (one of the three).");
    }
    if (!groups && !placement) return plan_recipe(*values);
    if (!groups) {
      print_placement(placement_request(*values));
      return kExitOk;
    }
    const LayoutArguments arguments_of_layout = layout_from(*values);
    const RankLayout layout(arguments_of_layout.parallel, arguments_of_layout.world);
    std::optional<int> rank;
    if (values->count("rank")) {
      rank = (*values)["rank"].as<int>();
      if (*rank < 0 || *rank >= layout.world_size()) {
        fail(ErrorCode::kBadArgument, "sutor plan: there is no rank {}; the layout is {}.", *rank,
             layout.describe());
      }
    }
    if ((*values)["json"].as<bool>()) {
      fmt::print("{}\n", to_json(layout, rank).dump());
    } else {
      print_table(layout, rank);
    }
    return kExitOk;
  });
}

}  // namespace sutor
