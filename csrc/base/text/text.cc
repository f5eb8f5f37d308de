#include "csrc/base/text/text.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <random>

namespace sutor {

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<std::string> split_at_commas(std::string_view list) {
  std::vector<std::string> items;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    items.emplace_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

std::string random_hex(int words) {
  std::random_device device;
  std::string digits;
  for (int i = 0; i < words; ++i) digits += fmt::format("{:08x}", device());
  return digits;
}

}  // namespace sutor
