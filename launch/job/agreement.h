// The ranks of a job tell each other their errors, and rank 0 tells what it finds on the disk, so
// that all of them go on or end in the same way.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/comm/comm.h"
#include "launch/job/current_error.h"

namespace sutor {

// The error that `body` throws, as "code message"; empty when it throws none.
template <typename Body>
std::string problem_of(Body&& body) {
  try {
    body();
    return "";
  } catch (...) {
    const Error error = current_error();
    return fmt::format("{} {}", number_of(error.code()), error.what());
  }
}

// Collective: the problems of all ranks, by rank, with the rank named where there are several.
std::vector<Error> problems_of_all(Comm& world, const std::string& problem, const char* what);

// Collective: every rank learns whether any rank had a problem; all throw the first one.
void agree(Comm& world, const std::string& problem, const char* what);

// Decisions that follow from the state of the file system are rank 0's: another node may see
// another state, and any state may change between two ranks' looks. Both of these are collective,
// and what `body` throws on rank 0 becomes the error of all ranks.

// Runs `body` on rank 0 while the others wait.
void on_rank_0(Comm& world, const char* what, const std::function<void()>& body);
// The same, and tells all ranks what it returned.
std::string from_rank_0(Comm& world, const char* what, const std::function<std::string()>& body);

}  // namespace sutor
