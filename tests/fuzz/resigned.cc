#include "tests/fuzz/resigned.h"

#include <cstring>

#include "csrc/base/hash.h"

namespace sutor::fuzz {

std::string resigned_manifest(const std::string& bytes) {
  const size_t line = bytes.find('\n');
  const std::string rest = line == std::string::npos ? bytes : bytes.substr(line + 1);
  return "{\"digest\": \"" + xxh3(rest).text() + "\",\n" + rest;
}

std::string resigned_index(std::string bytes) {
  constexpr size_t kDigestBytes = 16;
  if (bytes.size() < kDigestBytes) return bytes;
  const size_t body = bytes.size() - kDigestBytes;
  const Digest digest = xxh3(std::string_view(bytes).substr(0, body));
  std::memcpy(&bytes[body], &digest.high, sizeof digest.high);
  std::memcpy(&bytes[body + sizeof digest.high], &digest.low, sizeof digest.low);
  return bytes;
}

}  // namespace sutor::fuzz
