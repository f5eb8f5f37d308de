// Whatever was thrown, as an Error: what the C++ library and others throw gets a code and words.
#pragma once

#include "csrc/base/error.h"

namespace sutor {

// In a handler alone. E0503 for memory and threads that could not be had, E7000 for what is
// unknown.
Error current_error();

}  // namespace sutor
