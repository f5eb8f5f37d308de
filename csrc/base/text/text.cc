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

size_t first_not_utf8(std::string_view text) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  for (size_t at = 0; at < text.size();) {
    const unsigned lead = byte(at);
    size_t length = 1;
    uint32_t code = lead;
    if (lead >= 0x80) {
      length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
      if (lead < 0xC2 || lead > 0xF4 || text.size() - at < length) return at;
      code = lead & (0xFFu >> (length + 1));
      for (size_t i = 1; i < length; ++i) {
        if ((byte(at + i) & 0xC0) != 0x80) return at;
        code = code << 6 | (byte(at + i) & 0x3Fu);
      }
      const bool too_long = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
      if (too_long || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return at;
    }
    at += length;
  }
  return text.size();
}

std::string random_hex(int words) {
  std::random_device device;
  std::string digits;
  for (int i = 0; i < words; ++i) digits += fmt::format("{:08x}", device());
  return digits;
}

}  // namespace sutor
