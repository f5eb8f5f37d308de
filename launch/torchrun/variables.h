// How environment variables are looked up, so that tests can give their own.
#pragma once

#include <functional>

namespace sutor {

// A variable's value, or nullptr.
using Environment = std::function<const char*(const char* name)>;

}  // namespace sutor
