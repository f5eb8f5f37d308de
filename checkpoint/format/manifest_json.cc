#include "checkpoint/format/manifest_json.h"

#include "csrc/base/error.h"
#include "csrc/base/text/json.h"

namespace sutor {
using nlohmann::json;
namespace {

constexpr std::string_view kFirstLineStart = "{\"digest\": \"";
constexpr std::string_view kFirstLineEnd = "\",\n";

std::string digest_line(std::string_view rest) {
  return fmt::format("{}{}{}", kFirstLineStart, xxh3(rest).text(), kFirstLineEnd);
}

}  // namespace

void fail_manifest(const std::string& where, const std::string& reason) {
  fail(ErrorCode::kBadManifest, "{} is corrupt: {}", where, reason);
}

std::string encode_manifest_json(const json& body) {
  // The opening brace is in the digest's line.
  const std::string rest =
      body.dump(1, ' ', false, json::error_handler_t::replace).substr(2) + "\n";
  return digest_line(rest) + rest;
}

json parse_manifest_json(const std::string& text, const std::string& where, std::string_view format,
                         int64_t version) {
  const size_t line_end = text.find('\n');
  if (line_end == std::string::npos || !text.starts_with(kFirstLineStart)) {
    fail_manifest(where, "its first line must hold its digest");
  }
  const std::string_view rest = std::string_view(text).substr(line_end + 1);
  if (text.substr(0, line_end + 1) != digest_line(rest)) {
    fail_manifest(where, "its digest does not match its content");
  }
  ParsedJson read = parse_json(text);
  json parsed = std::move(read.value);
  if (!parsed.is_object()) fail_manifest(where, "it is not JSON");
  if (read.repeated_key) {
    fail_manifest(where, fmt::format("key `{}` stands twice", *read.repeated_key));
  }
  if (member<std::string>(parsed, "format", where) != format) {
    fail_manifest(where, fmt::format("its format is not {}", format));
  }
  const auto found = member<int64_t>(parsed, "format_version", where);
  if (found != version) {
    fail(ErrorCode::kUnknownVersion, "{} has format version {}; this program reads version {}",
         where, found, version);
  }
  return parsed;
}

bool starts_with_digest(std::string_view text) { return text.starts_with(kFirstLineStart); }

bool has_manifest_format(const std::string& text, std::string_view format) {
  return text.find(fmt::format("\"format\": \"{}\"", format)) != std::string::npos;
}

Digest digest_member(const json& object, const char* key, const std::string& where) {
  return parse_digest(member<std::string>(object, key, where), where);
}

json list_member(const json& object, const char* key, const std::string& where) {
  json list = member<json>(object, key, where);
  if (!list.is_array()) fail_manifest(where, fmt::format("key `{}` must be a list", key));
  for (const json& item : list) {
    if (!item.is_object()) {
      fail_manifest(where, fmt::format("key `{}` has an item that is not an object", key));
    }
  }
  return list;
}

}  // namespace sutor
