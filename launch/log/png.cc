// PNG (ISO/IEC 15948): signature, then chunks of length, type, data and CRC-32. The image data are
// a zlib stream (RFC 1950), here of stored blocks (RFC 1951, 3.2.4), which need no compressor.
#include "launch/log/png.h"

#include <algorithm>
#include <string_view>

#include "csrc/base/error.h"

namespace sutor {
namespace {

void put_big_endian(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

uint32_t crc32(std::string_view data) {
  uint32_t crc = ~0u;
  for (const char c : data) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0xedb88320u : 0u);
  }
  return ~crc;
}

uint32_t adler32(std::string_view data) {
  uint32_t low = 1, high = 0;
  for (const char c : data) {
    low = (low + static_cast<uint8_t>(c)) % 65521;
    high = (high + low) % 65521;
  }
  return high << 16 | low;
}

void put_chunk(std::string& out, std::string_view type, std::string_view data) {
  put_big_endian(out, static_cast<uint32_t>(data.size()));
  const std::string checked = std::string(type) + std::string(data);
  out += checked;
  put_big_endian(out, crc32(checked));
}

std::string stored_zlib(std::string_view data) {
  constexpr size_t kMost = 65535;
  std::string out = "\x78\x01";
  for (size_t at = 0; at < data.size(); at += kMost) {
    const auto size = static_cast<uint32_t>(std::min(kMost, data.size() - at));
    out.push_back(at + size == data.size() ? '\1' : '\0');  // the last block
    for (const uint32_t value : {size, ~size}) {
      out.push_back(static_cast<char>(value));
      out.push_back(static_cast<char>(value >> 8));
    }
    out += data.substr(at, size);
  }
  put_big_endian(out, adler32(data));
  return out;
}

}  // namespace

std::string png_picture(int width, int height, std::span<const uint8_t> pixels,
                        const std::vector<Colour>& palette) {
  SUTOR_ASSERT(width > 0 && height > 0 && !palette.empty() && palette.size() <= 16);
  SUTOR_ASSERT(pixels.size() == static_cast<size_t>(width) * static_cast<size_t>(height));
  std::string rows;
  for (int y = 0; y < height; ++y) {
    const auto row = pixels.subspan(static_cast<size_t>(y) * width, static_cast<size_t>(width));
    rows.push_back('\0');  // no filter
    for (size_t x = 0; x < row.size(); x += 2) {
      const unsigned right = x + 1 < row.size() ? row[x + 1] : 0;
      rows.push_back(static_cast<char>(row[x] << 4 | right));
    }
  }
  std::string header, colours;
  put_big_endian(header, static_cast<uint32_t>(width));
  put_big_endian(header, static_cast<uint32_t>(height));
  header += std::string_view("\4\3\0\0\0", 5);  // 4 bits, palette, deflate, filters, not interlaced
  for (const Colour& colour : palette) {
    for (const uint8_t part : colour) colours.push_back(static_cast<char>(part));
  }
  std::string out = "\x89PNG\r\n\x1a\n";
  put_chunk(out, "IHDR", header);
  put_chunk(out, "PLTE", colours);
  put_chunk(out, "IDAT", stored_zlib(rows));
  put_chunk(out, "IEND", "");
  return out;
}

}  // namespace sutor
