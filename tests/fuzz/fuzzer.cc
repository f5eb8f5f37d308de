// A libFuzzer program of one target, SUTOR_FUZZ_TARGET.
#include <cstdint>
#include <cstdlib>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sutor::fuzz::FuzzTarget* const target = sutor::fuzz::target_named(SUTOR_FUZZ_TARGET);
  if (target == nullptr) std::abort();
  sutor::fuzz::run(*target, std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
