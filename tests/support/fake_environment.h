// Environment variables of a test, in place of the process's own.
#pragma once

#include <map>
#include <string>

#include "launch/job/launcher.h"

namespace sutor::testing {

using Variables = std::map<std::string, std::string>;

inline Environment environment(const Variables& variables) {
  return [variables](const char* name) -> const char* {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  };
}

}  // namespace sutor::testing
