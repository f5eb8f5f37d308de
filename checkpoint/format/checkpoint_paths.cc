#include "checkpoint/format/checkpoint_paths.h"

#include <algorithm>
#include <charconv>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace {

constexpr std::string_view kStepPrefix = "step-";
constexpr size_t kMaxStepDigits = 18;  // fits int64_t

}  // namespace

std::string step_directory(int64_t step) {
  SUTOR_ASSERT(step >= 0);
  return fmt::format("{}{:08}", kStepPrefix, step);
}

std::optional<int64_t> parse_step_directory(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return {};
  const std::string_view digits = name.substr(kStepPrefix.size());
  if (digits.size() < 8 || digits.size() > kMaxStepDigits) return {};
  int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), step);
  if (error != std::errc() || end != digits.end() || step < 0) return {};
  // One name per step: "step-000000100" is refused.
  if (step_directory(step) != name) return {};
  return step;
}

std::filesystem::path staging_directory(const std::filesystem::path& root, int64_t step,
                                        std::string_view uuid) {
  const auto plain = [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
  };
  SUTOR_ASSERT(!uuid.empty() && uuid.size() <= 64 && std::all_of(uuid.begin(), uuid.end(), plain));
  return root / fmt::format("{}{:08}.{}", kStagingPrefix, step, uuid);
}

std::filesystem::path trash_directory(const std::filesystem::path& root, int64_t step) {
  return root / fmt::format("{}{:08}.{}", kTrashPrefix, step, random_hex());
}

std::string writer_file(int writer) { return fmt::format("w{:04}.h5", writer); }

std::string index_file(int writer) { return fmt::format("w{:04}.idx", writer); }

std::string store_data_file(size_t number) { return fmt::format("b{:05}.h5", number); }

std::string store_index_file(size_t number) { return fmt::format("b{:05}.idx", number); }

std::string store_header_file(size_t number) { return fmt::format("headers/{:05}.bin", number); }

}  // namespace sutor
