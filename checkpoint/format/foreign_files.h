// Files of other programs that people take for a model directory, and what to do with them.
#pragma once

#include <filesystem>
#include <string>

namespace sutor {

// What stands at `path`, which is no model directory, and the remedy: "it is a GGUF file, ...".
// Empty when it is nothing that is known here. Of a path where nothing is: whether it looks like a
// name of a model hub.
std::string foreign_model_text(const std::filesystem::path& path);

}  // namespace sutor
