// Checks with the journals of all ranks that any two ranks issued their common operations in one
// order.
#pragma once

#include <string>
#include <vector>

namespace sutor {

// logs: Journal::text() of every rank. Empty when any two ranks issued the collectives of the
// groups that both belong to in the same order over all groups, and the messages of each direction
// between them in the same order; else the first difference.
std::string order_problem(const std::vector<std::string>& logs);

}  // namespace sutor
