// SipHash-2-4 (Aumasson and Bernstein): a keyed hash of short texts. Who does not have the key can
// neither tell the hash of a text, nor learn the key from hashes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sutor {

// key: 128 bits as 32 hex digits. Returns 16 hex digits.
std::string keyed_hash(const std::string& key, std::string_view text);

// With the key and the result as the algorithm has them.
uint64_t sip_hash(uint64_t key_low, uint64_t key_high, std::string_view text);

}  // namespace sutor
