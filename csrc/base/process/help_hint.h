// Where a person at a terminal finds more about an error.
#pragma once

#include <string>

namespace sutor {

// "E0201" of "rank 1: my.yaml:3:1: error[E0201]: ..."; empty when the first line names no error.
std::string error_named_in(const std::string& message);

// Where stderr is a terminal: one line that names the command which explains the message's error.
// Files and programs get the message alone.
void print_help_hint(const std::string& message);

}  // namespace sutor
