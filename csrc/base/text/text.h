// Short texts that many places make or take apart: shapes, lists with commas, random names.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sutor {

// "[2, 3]"
std::string shape_text(std::span<const int64_t> shape);

// The items between the commas, as they stand: "a,,b" has three, an empty text one empty item.
std::vector<std::string> split_at_commas(std::string_view list);

// Where the first byte stands that is not part of UTF-8; text.size() when there is none.
size_t first_not_utf8(std::string_view text);

// Random hexadecimal digits, 8 for each word that the system's generator gives: for names that
// nobody else takes, and tokens. Two words unless told otherwise.
std::string random_hex(int words = 2);

}  // namespace sutor
