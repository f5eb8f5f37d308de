// Figures as people read them: counts, sizes, durations.
#pragma once

#include <cstdint>
#include <string>

namespace sutor {

// "9m51s", "2h05m", "3d04h", "42s".
std::string format_duration(double seconds);
// "36.8 GiB", "512.0 MiB".
std::string format_bytes(int64_t bytes);
// "1,234,567".
std::string format_count(int64_t count);

}  // namespace sutor
