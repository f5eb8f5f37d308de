#include "launch/doctor/doctor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "csrc/base/process/host.h"
#include "csrc/base/text/json.h"
#include "launch/doctor/checks.h"

namespace sutor {
namespace {

using nlohmann::ordered_json;

// Seconds that a check may take which nothing else limits.
constexpr double kOfProcess = 20, kOfPython = 30, kOfFolder = 60;

void append(Findings& all, const Findings& more) {
  all.insert(all.end(), more.begin(), more.end());
}

ordered_json to_json(const Finding& finding) {
  return {{"check", finding.check},
          {"grade", name_of(finding.grade)},
          {"text", finding.text},
          {"remedy", finding.remedy}};
}

std::string to_text(const Findings& findings) {
  ordered_json list = ordered_json::array();
  for (const Finding& finding : findings) list.push_back(to_json(finding));
  return dump_json(list);
}

Findings from_text(const std::string& text) {
  Findings findings;
  for (const auto& item : parse_json(text).value) {
    const auto grade = item.at("grade").get<std::string>();
    findings.push_back({item.at("check").get<std::string>(),
                        grade == "ok"     ? Grade::kOk
                        : grade == "note" ? Grade::kNote
                                          : Grade::kFailed,
                        item.at("text").get<std::string>(), item.at("remedy").get<std::string>()});
  }
  return findings;
}

std::string ranks_text(const std::vector<int>& ranks, int all) {
  if (static_cast<int>(ranks.size()) == all) return "";
  return fmt::format("[rank{} {}] ", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

// What every process finds by itself.
Findings own_findings(const std::string& problem, Comm& world) {
  const Environment environment = process_environment();
  Findings found = within(kOfProcess, "build", "", check_versions);
  append(found, within(kOfProcess, "CPU", "", check_cpu));
  int here = world.size();
  if (problem.empty()) {
    append(found,
           caught("launcher", "", [&] { return check_launcher(environment, world.size()); }));
    here = detect_launcher(environment).ranks_on_node;
  } else {
    append(found, unconnected(problem));
  }
  append(found, within(kOfProcess, "devices", "the driver does not answer: does nvidia-smi?",
                       [here] { return check_devices(here); }));
  return found;
}

// Ranks of a host have the same Python: the first one of each looks.
Findings python_findings(Comm& world) {
  const std::vector<std::string> hosts = world.all_gather_text(host_name(), "hosts");
  const auto first =
      std::find(hosts.begin(), hosts.end(), hosts[static_cast<size_t>(world.rank())]);
  if (first - hosts.begin() != world.rank()) return {};
  return within(kOfPython, "Python steps",
                "`bash tools/setup.sh` makes .venv, or set SUTOR_PYTHON to a Python that answers",
                check_python);
}

}  // namespace

std::vector<SharedFinding> merged(const std::vector<Findings>& by_rank) {
  std::vector<SharedFinding> all;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    for (const Finding& finding : by_rank[rank]) {
      const auto same = std::find_if(all.begin(), all.end(), [&](const SharedFinding& other) {
        return other.finding.check == finding.check && other.finding.grade == finding.grade &&
               other.finding.text == finding.text;
      });
      if (same != all.end()) {
        same->ranks.push_back(static_cast<int>(rank));
        continue;
      }
      // Beside those of the same check.
      auto place = all.end();
      for (auto at = all.begin(); at != all.end(); ++at) {
        if (at->finding.check == finding.check) place = at + 1;
      }
      all.insert(place, {finding, {static_cast<int>(rank)}});
    }
  }
  return all;
}

std::vector<SharedFinding> examine(const std::filesystem::path& folder, Comm& world,
                                   const std::string& problem) {
  Findings mine = own_findings(problem, world);
  append(mine, python_findings(world));
  append(mine, check_communication(world));
  const std::filesystem::path place =
      world.broadcast_text(world.rank() == 0 ? existing_folder(folder).string() : "", 0, "folder");
  if (world.rank() == 0) {
    append(mine, within(kOfFolder, "folder", "name a folder that you may write by --out",
                        [place] { return check_folder(place); }));
  }
  // What rank 0 found out is true of the folder, and of all that concerns all ranks.
  const Findings shared = check_shared(place, world);
  if (world.rank() == 0) append(mine, shared);
  std::vector<Findings> by_rank;
  for (const std::string& text : world.all_gather_text(to_text(mine), "findings")) {
    by_rank.push_back(from_text(text));
  }
  end_children();
  return merged(by_rank);
}

bool all_work(const std::vector<SharedFinding>& findings) {
  return std::none_of(findings.begin(), findings.end(), [](const SharedFinding& each) {
    return each.finding.grade == Grade::kFailed;
  });
}

std::string doctor_text(const std::vector<SharedFinding>& findings, int ranks) {
  std::string text;
  int failed = 0, notes = 0;
  for (const auto& [finding, of] : findings) {
    failed += finding.grade == Grade::kFailed;
    notes += finding.grade == Grade::kNote;
    // Checks that one rank makes for all of them do not name it.
    const bool of_one = of == std::vector<int>{0} && finding.grade == Grade::kOk;
    text += fmt::format("{:<6} {:<15} {}{}\n", name_of(finding.grade), finding.check,
                        of_one ? "" : ranks_text(of, ranks), finding.text);
    if (!finding.remedy.empty()) text += fmt::format("{:23}-> {}\n", "", finding.remedy);
  }
  const auto count = [](int number, const char* one) {
    return fmt::format("{} {}{}", number, one, number == 1 ? "" : "s");
  };
  return text + fmt::format("{}: {} of {}, {}\n", failed == 0 ? "all works" : "NOT all works",
                            count(failed, "failure"),
                            count(static_cast<int>(findings.size()), "check"),
                            count(notes, "note"));
}

ordered_json doctor_json(const std::vector<SharedFinding>& findings, int ranks) {
  ordered_json checks = ordered_json::array();
  for (const auto& [finding, of] : findings) {
    checks.push_back(to_json(finding));
    checks.back()["ranks"] = of;
  }
  return {{"works", all_work(findings)}, {"ranks", ranks}, {"checks", checks}};
}

}  // namespace sutor
