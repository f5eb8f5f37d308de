// A conversation with a model: a line is a turn, the answer comes token by token. Rank 0 reads and
// prints, all ranks compute.
#pragma once

#include <optional>
#include <string>

#include "launch/model/session.h"
#include "recipes/recipe.h"

namespace sutor {

// Until the input ends or `/quit`. Each answer is what `generate` makes of the same conversation.
// system: the first message, where there is one. Without a chat template each line is completed by
// itself. Throws E0202 for a system message without a template; what is wrong with a turn is told,
// and takes it back. Collective.
void run_chat(const Recipe& recipe, Session& session, const std::optional<std::string>& system);

}  // namespace sutor
