// The Python of prepare, eval and generate.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "launch/doctor/checks.h"
#include "launch/job/python_step.h"

namespace sutor {

Findings check_python() {
  constexpr const char* kScript = "doctor.py";
  const std::string remedy =
      "`bash tools/setup.sh` makes .venv with all of them, or set SUTOR_PYTHON to a Python that "
      "has "
      "them";
  const PythonOutput output = read_python_step(kScript, nlohmann::json::object());
  if (output.exit_code != kExitOk) {
    return {{"Python steps", Grade::kFailed,
             fmt::format("tools/{} ended with exit code {}", kScript, output.exit_code), remedy}};
  }
  const nlohmann::json printed = printed_json(output, kScript);
  std::string have, lack, without;
  const auto append = [](std::string& list, const std::string& item) {
    list += (list.empty() ? "" : ", ") + item;
  };
  for (const nlohmann::json& package : printed.at("packages")) {
    const auto name = package.at("name").get<std::string>();
    if (package.contains("version")) {
      append(have, fmt::format("{} {}", name, package["version"].get<std::string>()));
    } else if (package.at("needed").get<bool>()) {
      append(lack, fmt::format("{} ({})", name, package.at("error").get<std::string>()));
    } else {
      append(without, fmt::format("{} ({})", name, package.at("use").get<std::string>()));
    }
  }
  const std::string python =
      fmt::format("{} (Python {})", printed.at("executable").get<std::string>(),
                  printed.at("python").get<std::string>());
  if (!lack.empty()) {
    return {{"Python steps", Grade::kFailed,
             fmt::format("{} lacks {}: rows cannot be prepared", python, lack), remedy}};
  }
  Findings findings = {{"Python steps", Grade::kOk, fmt::format("{}: {}", python, have), ""}};
  if (!without.empty()) {
    findings.push_back({"Python steps", Grade::kNote, "not there: " + without, remedy});
  }
  return findings;
}

}  // namespace sutor
