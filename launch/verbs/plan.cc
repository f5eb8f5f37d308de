// sutor plan: what a layout of ranks is, worked out without any.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/layout_arguments.h"
#include "launch/cli/verb.h"
#include "launch/job/failure.h"
#include "launch/plan/plan_placement.h"
#include "parallel_state/layout/rank_layout.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "plan",
    "Works out what a layout means without starting any rank. --groups: its process groups, in "
    "Megatron-Core's order; a layout that does not fit is refused with the arithmetic. "
    "--placement: "
    "how evenly expert work lies on the expert parallel ranks, by Megatron's contiguous placement "
    "and by one that is balanced by scores and trained experts.",
    "sutor plan --groups [--world N] [--tp N] [--cp N] [--ep N] [--etp N] [--pp N] [--order ORDER] "
    "[--rank R] [--json] | sutor plan --placement --scores PATH --config FILE --ep N [--replicas "
    "R] "
    "[--halves] [--json]",
    "sutor plan --groups --world 16 --tp 2 --cp 2 --pp 2 --ep 4\n"
    "sutor plan --placement --scores records/ --config intent.json --ep 8 --halves"};

// Megatron's group, and the name that RankLayout has for it where it is another.
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

// All groups of a kind, or those that hold `rank`.
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
    auto add = options.add_options();
    add("groups", po::bool_switch(), "the process groups");
    add("placement", po::bool_switch(), "contiguous and balanced placement of experts");
    add_layout_options(options);
    add("scores", po::value<std::string>()->default_value(""),
        "of --placement: scores.h5, summary.json, or a folder of records");
    add("config", po::value<std::string>()->default_value(""),
        "of --placement: the expert config (JSON), numbered as the scores are");
    add("replicas", po::value<int>()->default_value(0),
        "of --placement: most used frozen experts of a layer that every rank has");
    add("router-groups", po::value<int>()->default_value(1),
        "of --placement: groups of a group-limited router, which stay together");
    add("halves", po::bool_switch(),
        "of --placement: choose by the first half of the records' tokens, evaluate on the second");
    add("rank", po::value<int>(), "only the groups that hold this rank");
    add("json", po::bool_switch(), "print JSON and nothing else");
    const auto values = parse_command_line(kHelp, options, {}, arguments);
    if (!values) return kExitOk;
    const bool groups = (*values)["groups"].as<bool>();
    if (groups == (*values)["placement"].as<bool>()) {
      fail(ErrorCode::kBadArgument, "sutor plan: give --groups or --placement (one of the two).");
    }
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
