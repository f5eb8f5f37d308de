// Checks of the table of error codes, at compile time. Names are unique since they are enumerators.
#include "csrc/base/error_codes.h"

#include <cstddef>
#include <iterator>

namespace sutor {
namespace {

struct Entry {
  int number;
  int exit_code;
};

constexpr Entry kErrors[] = {
#define SUTOR_ENTRY(number, name, exit_code, text) {number, exit_code},
    SUTOR_ERRORS(SUTOR_ENTRY)
#undef SUTOR_ENTRY
};

constexpr int kWarnings[] = {
#define SUTOR_ENTRY(number, name, text) number,
    SUTOR_WARNINGS(SUTOR_ENTRY)
#undef SUTOR_ENTRY
};

constexpr bool exit_codes_fit() {
  for (const Entry& entry : kErrors) {
    if (entry.number / 100 != entry.exit_code) return false;
  }
  return true;
}

constexpr bool errors_ascend() {
  for (size_t i = 1; i < std::size(kErrors); ++i) {
    if (kErrors[i - 1].number >= kErrors[i].number) return false;
  }
  return true;
}

constexpr bool warnings_ascend() {
  for (size_t i = 1; i < std::size(kWarnings); ++i) {
    if (kWarnings[i - 1] >= kWarnings[i]) return false;
  }
  return true;
}

static_assert(exit_codes_fit(), "the hundreds of an error's number are its exit code");
static_assert(errors_ascend(), "errors stand in the order of their numbers, each once");
static_assert(warnings_ascend(), "warnings stand in the order of their numbers, each once");

}  // namespace
}  // namespace sutor
