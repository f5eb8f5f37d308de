#include "launch/job/environment.h"

#include <sys/stat.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace {

[[noreturn]] void refuse(const char* name, const std::string& value, const std::string& expected) {
  fail(ErrorCode::kBadEnvironment, "{}={}: expected {}. Correct it, or unset it (`unset {}`)", name,
       value, expected, name);
}

std::optional<int64_t> whole(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// The variable as a number of [least, most]; none when it is not set.
std::optional<int64_t> whole_variable(const Environment& environment, const char* name,
                                      int64_t least, int64_t most) {
  const char* text = environment(name);
  if (text == nullptr) return std::nullopt;
  const std::optional<int64_t> number = whole(text);
  if (!number || *number < least || *number > most) {
    refuse(name, text, fmt::format("a whole number from {} to {}", least, most));
  }
  return number;
}

void check_seconds(const Environment& environment, const char* name) {
  const char* text = environment(name);
  if (text == nullptr) return;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  // A year: more is a mistake, and clocks are added to it.
  if (end != text && *end == '\0' && seconds > 0 && seconds <= 366.0 * 24 * 3600) return;
  refuse(name, text, "a number of seconds above 0, at most a year");
}

void check_peak(const Environment& environment) {
  const char* name = "SUTOR_PEAK_TFLOPS";
  const char* text = environment(name);
  if (text == nullptr) return;
  char* end = nullptr;
  const double tflops = std::strtod(text, &end);
  if (end != text && *end == '\0' && tflops > 0 && tflops < 1e9) return;
  refuse(name, text, "10^12 operations a second of one rank's device, above 0");
}

// OpenMP allows one number for each level of nesting.
void check_threads(const Environment& environment) {
  const char* name = "OMP_NUM_THREADS";
  const char* text = environment(name);
  if (text == nullptr) return;
  for (const std::string& item : split_at_commas(text)) {
    const std::optional<int64_t> number = whole(item);
    if (!number || *number < 1 || *number > 65536) {
      refuse(name, text, "a number of threads, 1 or more");
    }
  }
}

void check_switch(const Environment& environment, const char* name) {
  const char* text = environment(name);
  if (text == nullptr) return;
  const std::string_view value = text;
  if (value != "on" && value != "off" && value != "1" && value != "0") {
    refuse(name, text, "on or off");
  }
}

bool is_socket(int64_t fd) {
  struct stat status {};
  return ::fstat(static_cast<int>(fd), &status) == 0 && S_ISSOCK(status.st_mode);
}

void check_launcher(const Environment& environment) {
  constexpr int64_t kMost = 1 << 20;
  const auto size = whole_variable(environment, "PMI_SIZE", 1, kMost);
  const auto rank = whole_variable(environment, "PMI_RANK", 0, kMost);
  const auto fd = whole_variable(environment, "PMI_FD", 0, kMost);
  whole_variable(environment, "MPI_LOCALRANKID", 0, kMost);
  whole_variable(environment, "MPI_LOCALNRANKS", 1, kMost);
  if (!size || *size == 1) return;  // one process asks no launcher
  const std::string several =
      fmt::format("PMI_SIZE={} says that a launcher started {} processes, but ", *size, *size);
  const char* left_over =
      ". It was left over from another job: unset the PMI_* variables, or start with mpiexec or "
      "srun --mpi=pmi2";
  if (!rank || *rank >= *size) {
    fail(ErrorCode::kBadEnvironment, "{}PMI_RANK {}: expected a rank below {}{}", several,
         rank ? fmt::format("is {}", *rank) : "is not set", *size, left_over);
  }
  if (environment("PMI_PORT") != nullptr) return;  // MPICH connects to it by name
  if (!fd) {
    fail(ErrorCode::kBadEnvironment, "{}neither PMI_FD nor PMI_PORT says how to reach it{}",
         several, left_over);
  }
  if (!is_socket(*fd)) {
    fail(ErrorCode::kBadEnvironment, "{}PMI_FD={} is no connection to it{}", several, *fd,
         left_over);
  }
}

}  // namespace

void check_environment(const Environment& environment) {
  check_launcher(environment);
  for (const char* name :
       {"SUTOR_HEARTBEAT_TIMEOUT", "SUTOR_COMM_TIMEOUT", "SUTOR_PROGRESS_SECONDS"}) {
    check_seconds(environment, name);
  }
  check_switch(environment, "SUTOR_WATCHDOG");
  check_peak(environment);
  check_threads(environment);
}

}  // namespace sutor
