// What `sutor help CODE` prints, and the list of all codes for generated pages.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sutor {

// "E0201", "e201", "W0341", or a number alone, which stands for an error -> its help: what it
// means, what causes it, what to do, the exit code. Nothing for a text that has not the form of a
// code. Throws E0202 for a code that does not exist, with the nearest ones.
std::optional<std::string> code_help(std::string_view code);

}  // namespace sutor
