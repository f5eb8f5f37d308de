// Files of token ids: JSON, a list of rows, each a list of ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sutor {

// Throws E0301, and E0335 for a file that holds anything else, or nothing. what: the rows, in
// words.
std::vector<std::vector<int64_t>> read_token_ids(const std::string& path,
                                                 const char* what = "token ids");

}  // namespace sutor
