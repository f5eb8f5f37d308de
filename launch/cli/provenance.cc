#include "launch/cli/provenance.h"

namespace sutor {

std::string version_text() { return "sutor " SUTOR_VERSION " (" SUTOR_COMMIT ")"; }

nlohmann::json provenance(const std::string& verb, const Arguments& arguments) {
  std::string command = "sutor " + verb;
  for (const std::string& argument : arguments) command += " " + argument;
  return {{"program", "sutor"},
          {"version", SUTOR_VERSION},
          {"commit", SUTOR_COMMIT},
          {"command", command}};
}

}  // namespace sutor
