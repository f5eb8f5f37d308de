// From rows to completions as text: tokens by the Python step, generation over the ranks, and text
// again.
#pragma once

#include <filesystem>
#include <string>

#include "launch/eval/generation.h"
#include "launch/model/session.h"
#include "recipes/recipe.h"

namespace sutor {

struct TextPrompts {
  std::filesystem::path rows;
  std::string format = "auto";  // messages | completion | text | tokens
};

struct TextResult {
  GenerationResult generation;
  int64_t prompts = 0, dropped = 0, stopped = 0;
};

// Writes `out`: a line {"example": {"prompt", "raw_prediction", "raw_answers"}, "score": null,
// "ids"} a prompt. Prompts that leave no room for generate.max_new_tokens in the model's context
// are dropped and counted. Collective; rank 0 runs the Python step, whose errors end the job with
// its code.
TextResult generate_text(const Recipe& recipe, const Session& session, const TextPrompts& prompts,
                         const std::filesystem::path& out);

}  // namespace sutor
