#include "launch/data/python_random.h"

#include <algorithm>

namespace sutor {

// init_by_array of the generator's authors, for the array {seed}.
PythonRandom::PythonRandom(uint32_t seed) {
  constexpr size_t n = 624;
  state_[0] = 19650218;
  const auto spread = [&](size_t i) { return state_[i - 1] ^ (state_[i - 1] >> 30); };
  for (size_t i = 1; i < n; ++i) {
    state_[i] = 1812433253u * spread(i) + static_cast<uint32_t>(i);
  }
  size_t i = 1;
  const auto step = [&] {
    if (++i < n) return;
    state_[0] = state_[n - 1];
    i = 1;
  };
  for (size_t k = 0; k < n; ++k) {
    state_[i] = (state_[i] ^ (spread(i) * 1664525u)) + seed;
    step();
  }
  for (size_t k = 0; k + 1 < n; ++k) {
    state_[i] = (state_[i] ^ (spread(i) * 1566083941u)) - static_cast<uint32_t>(i);
    step();
  }
  state_[0] = 0x80000000u;
}

void PythonRandom::refill() {
  constexpr size_t n = 624, m = 397;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = (state_[i] & 0x80000000u) | (state_[(i + 1) % n] & 0x7fffffffu);
    state_[i] = state_[(i + m) % n] ^ (bits >> 1) ^ ((bits & 1u) ? 0x9908b0dfu : 0u);
  }
  at_ = 0;
}

uint32_t PythonRandom::word() {
  if (at_ == state_.size()) refill();
  uint32_t bits = state_[at_++];
  bits ^= bits >> 11;
  bits ^= (bits << 7) & 0x9d2c5680u;
  bits ^= (bits << 15) & 0xefc60000u;
  return bits ^ (bits >> 18);
}

double PythonRandom::next() {
  const uint32_t high = word() >> 5, low = word() >> 6;
  return (static_cast<double>(high) * 67108864.0 + static_cast<double>(low)) / 9007199254740992.0;
}

}  // namespace sutor
