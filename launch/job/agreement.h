// The ranks of a job tell each other their errors, so that all of them end in the same way.
#pragma once

#include <string>

#include "csrc/base/error.h"
#include "csrc/comm/comm.h"

namespace sutor {

// The error that `body` throws, as "code message"; empty when it throws none.
template <typename Body>
std::string problem_of(Body&& body) {
  try {
    body();
    return "";
  } catch (const Error& error) {
    return fmt::format("{} {}", number_of(error.code()), error.what());
  }
}

// Collective: every rank learns whether any rank had a problem; all throw the first one.
void agree(Comm& world, const std::string& problem, const char* what);

}  // namespace sutor
