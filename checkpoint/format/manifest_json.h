// Common to all manifests: JSON whose first line has the xxh3 of the rest, and strict reading of
// its members (E0342).
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>

#include "csrc/base/hash.h"

namespace sutor {

inline constexpr int64_t kMaxManifestBytes = int64_t{256} << 20;

// The text of a manifest: `body` (an object with members), preceded by a member `digest`.
std::string encode_manifest_json(const nlohmann::json& body);

// The object of such a text. Throws E0342 naming `where` when the digest does not match or the text
// is not JSON; E0343 for another version than `version`.
nlohmann::json parse_manifest_json(const std::string& text, const std::string& where,
                                   std::string_view format, int64_t version);

// Whether the text begins as encode_manifest_json() begins it.
bool starts_with_digest(std::string_view text);

// Whether the text is a manifest of this format, sound or not.
bool has_manifest_format(const std::string& text, std::string_view format);

[[noreturn]] void fail_manifest(const std::string& where, const std::string& reason);

// A member of `object` as type T; integers must not be negative, and fit.
template <typename T>
T member(const nlohmann::json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end()) {
    fail_manifest(where, std::string("key `") + key + "` is missing");
  }
  bool fits = true;
  if constexpr (std::is_integral_v<T>) {
    fits = found->is_number_unsigned()
               ? found->template get<uint64_t>() <=
                     static_cast<uint64_t>(std::numeric_limits<T>::max())
               : found->is_number_integer() && found->template get<int64_t>() >= 0 &&
                     found->template get<int64_t>() <= std::numeric_limits<T>::max();
  } else if constexpr (std::is_same_v<T, std::string>) {
    fits = found->is_string();
  }
  if (!fits) fail_manifest(where, std::string("key `") + key + "` has the wrong type");
  return found->template get<T>();
}

Digest digest_member(const nlohmann::json& object, const char* key, const std::string& where);
// A list of objects.
nlohmann::json list_member(const nlohmann::json& object, const char* key, const std::string& where);

}  // namespace sutor
