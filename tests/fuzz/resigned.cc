#include "tests/fuzz/resigned.h"

#include <algorithm>
#include <cstdint>
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

std::string resealed(const std::string& bytes) {
  constexpr size_t kSealBytes = 24;
  if (bytes.size() < kSealBytes) return bytes;
  const std::string body = bytes.substr(0, bytes.size() - kSealBytes);
  uint64_t sum = 0;
  for (size_t at = 0; at < body.size(); at += sizeof(uint32_t)) {
    uint32_t word = 0;
    std::memcpy(&word, &body[at], std::min(sizeof word, body.size() - at));
    sum += (at / sizeof word + 1) * word;
  }
  const uint64_t numbers[] = {body.size(), sum};
  return body + "SUTORSUM" + std::string(reinterpret_cast<const char*>(numbers), sizeof numbers);
}

}  // namespace sutor::fuzz
