// From rows to completions as text: the Python step makes tokens, the ranks generate, and the
// Python step makes text.
#pragma once

#include <filesystem>
#include <string>

#include "launch/eval/generation.h"
#include "launch/model/session.h"
#include "recipes/recipe.h"

namespace sutor {

// The most tokens that prompt and completion may have together; 0 when config.json sets no limit.
int64_t context_length(const ModelSource& source);

struct TextPrompts {
  std::filesystem::path rows;   // a file, a glob or a folder
  std::string format = "auto";  // as data.train[].format, but for store
  RowColumns columns;
};

struct TextResult {
  GenerationResult generation;
  int64_t prompts = 0, dropped = 0, stopped = 0;
};

// A completion ends at any of stop_ids() (generation.h), at the tokenizer's end token, and at the
// token with which the chat template ends a turn. Writes `out`: for each prompt a line {"example":
// {"prompt", "raw_prediction", "raw_answers"}, "score": null, "ids"}. Drops and counts prompts that
// leave no room for generate.max_new_tokens in the model's context. Collective; rank 0 runs the
// Python step, whose errors end the job with its code.
TextResult generate_text(const Recipe& recipe, const Session& session, const TextPrompts& prompts,
                         const std::filesystem::path& out);

}  // namespace sutor
