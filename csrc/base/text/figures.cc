#include "csrc/base/text/figures.h"

#include <fmt/format.h>

#include <cmath>

namespace sutor {

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const int64_t total = std::llround(seconds);
  const int64_t minutes = total / 60, hours = total / 3600, days = total / 86400;
  if (days > 0) return fmt::format("{}d{:02}h", days, hours % 24);
  if (hours > 0) return fmt::format("{}h{:02}m", hours, minutes % 60);
  if (minutes > 0) return fmt::format("{}m{:02}s", minutes, total % 60);
  return fmt::format("{}s", total);
}

std::string format_bytes(int64_t bytes) {
  const double size = static_cast<double>(bytes);
  if (bytes < 1024) return fmt::format("{} B", bytes);
  if (bytes < int64_t{1} << 20) return fmt::format("{:.1f} KiB", size / 1024);
  if (bytes < int64_t{1} << 30) return fmt::format("{:.1f} MiB", size / (1 << 20));
  return fmt::format("{:.1f} GiB", size / (1 << 30));
}

std::string format_count(int64_t count) {
  const std::string digits = std::to_string(count);
  const size_t first = count < 0 ? 1 : 0;
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > first && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace sutor
