// SHA-256, by which tools/prepare.py names what it read; everything else here is named by xxh3
// (hash.h), which is ten times faster.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace sutor {

class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  // "sha256:" and 64 hex digits, of everything so far. Ends the stream.
  std::string text();

 private:
  void take_block(const std::byte* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> buffer_{};
  size_t buffered_ = 0;
  uint64_t bytes_ = 0;
};

// Of a file's content, read in blocks of a fixed size. Throws E0301, E0303.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace sutor
