// How the ranks of a job learn of each other's errors, so that all of them end alike.
#pragma once

#include <string>

#include "csrc/base/error.h"
#include "csrc/comm/comm.h"

namespace sutor {

// What `body` throws, as "code message"; empty when it does not.
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
