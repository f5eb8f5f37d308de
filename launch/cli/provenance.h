// Who wrote a file: program, version, commit, command line.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "launch/cli/verb.h"

namespace sutor {

std::string version_text();  // "sutor 0.1.0 (commit)"
nlohmann::json provenance(const std::string& verb, const Arguments& arguments);

}  // namespace sutor
