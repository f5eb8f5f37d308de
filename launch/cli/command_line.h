// Command lines of the verbs: Boost.Program_options with our help page and our errors.
#pragma once

#include <boost/program_options.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "launch/cli/verb.h"

namespace sutor {

struct VerbHelp {
  std::string_view verb;      // "select"
  std::string_view summary;   // one sentence
  std::string_view usage;     // "sutor select --scores PATH --method token --out FILE"
  std::string_view examples;  // two complete command lines, one per line
};

// The given path without a trailing slash, which would hide its name; throws E0301 when it does not
// exist.
std::filesystem::path existing_path(std::filesystem::path path);

// Parses `arguments`; prints the help page (it fits a screen) and returns nothing for --help.
// Throws E0202 for an unknown option (and names the nearest one), a missing or a malformed value.
// Verbs that may take long have --quiet, too; it silences the progress of this process
// (csrc/base/process/progress.h), as --json does: a program reads that.
std::optional<boost::program_options::variables_map> parse_command_line(
    const VerbHelp& help, const boost::program_options::options_description& options,
    const boost::program_options::positional_options_description& positional,
    const Arguments& arguments);

}  // namespace sutor
