// All checks of a job's ranks, as one report.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "csrc/comm/comm.h"
#include "launch/doctor/finding.h"

namespace sutor {

// A finding, and the ranks that have it.
struct SharedFinding {
  Finding finding;
  std::vector<int> ranks;
};

// Equal findings of several ranks become one, in the order of rank 0's.
std::vector<SharedFinding> merged(const std::vector<Findings>& by_rank);

// Collective: what all ranks find, the same on each of them. `folder`: of the run's output.
// `problem`: of a start in which ranks cannot find each other, else empty.
std::vector<SharedFinding> examine(const std::filesystem::path& folder, Comm& world,
                                   const std::string& problem);

bool all_work(const std::vector<SharedFinding>& findings);
std::string doctor_text(const std::vector<SharedFinding>& findings, int ranks);
nlohmann::ordered_json doctor_json(const std::vector<SharedFinding>& findings, int ranks);

}  // namespace sutor
