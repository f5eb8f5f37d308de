// The known word that is nearest to an unknown one, for messages about keys and options.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sutor {

// Levenshtein distance: insertions, deletions and substitutions from one text to the other.
size_t edit_distance(std::string_view a, std::string_view b);

// The candidate closest to `word` (the first of equals); empty when there are none.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace sutor
