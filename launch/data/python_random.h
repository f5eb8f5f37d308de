// The numbers of Python's random.seed(n); random.random(): MT19937 (Matsumoto and Nishimura 1998),
// seeded by an array of one word, two draws a number. For what programs in Python have fixed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sutor {

class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);
  double next();  // in [0, 1), of 53 bits

 private:
  uint32_t word();
  void refill();
  std::array<uint32_t, 624> state_;
  size_t at_ = 624;
};

}  // namespace sutor
