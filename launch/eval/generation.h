// Generation: completes prompts of unequal lengths token by token, with a cache, over the ranks of
// a job. A completion depends on its prompt alone, not on its batch nor on the layout.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <vector>

#include "launch/model/session.h"
#include "recipes/recipe.h"

namespace sutor {

struct Completion {
  std::vector<int64_t> ids;  // new tokens, including the stop token
  bool stopped = false;      // ended by a stop token, not by max_new_tokens
};

struct GenerationResult {
  std::vector<Completion> completions;  // one per prompt, on every rank
  int64_t prompt_tokens = 0, new_tokens = 0;
  double seconds = 0;
};

// Of a generation while it runs, for one prompt.
struct GenerationWatch {
  std::function<void(const Completion&)> on_token;  // on rank 0, after each token of prompt 0
  std::function<bool()> ends;  // on any rank: all of them end, with the tokens that there are
};

// The ids that end a completion: eos_token_id of generation_config.json and of config.json, and
// those that ended what the source's adapters were trained on. What the tokenizer and the chat
// template name comes with prompts as text (text_generation.h).
std::set<int64_t> stop_ids(const ModelSource& source);

// Collective over the world: the ranks share the prompts, and all of them take part until the last
// prompt is completed. Throws E0330 for an id beyond the vocabulary, E0336 for an empty prompt.
GenerationResult generate(const Session& session, std::span<const std::vector<int64_t>> prompts,
                          const std::set<int64_t>& stop, const GenerateOptions& options,
                          const GenerationWatch* watch = nullptr);

}  // namespace sutor
