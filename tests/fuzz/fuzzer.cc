// A libFuzzer program of one target, SUTOR_FUZZ_TARGET.
#include <cstdint>
#include <cstdlib>

#include "tests/fuzz/targets.h"

// HDF5 loses some bytes of an object header that it cannot parse, 424 each time: the library's own.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sutor::fuzz::FuzzTarget* const target = sutor::fuzz::target_named(SUTOR_FUZZ_TARGET);
  if (target == nullptr) std::abort();
  sutor::fuzz::run(*target, std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
