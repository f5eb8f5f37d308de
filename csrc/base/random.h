// Random bits as a function of integers: the same on every machine, rank and layout. Not for
// secrets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

namespace sutor {

// 2^64 over the golden ratio: SplitMix64's step from one state to the next.
inline constexpr uint64_t kGolden64 = 0x9e3779b97f4a7c15;

// SplitMix64's finaliser (Vigna, after Stafford's variant 13): a bijection in which every bit of x
// moves every bit of the result.
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Fisher-Yates with a 64-bit generator. Our own, as the standard's differs between libraries. The
// bias of % is below 2^-30 for any list that fits in memory.
template <typename T, typename Generator>
void shuffle(std::vector<T>& items, Generator& random) {
  static_assert(std::is_same_v<typename Generator::result_type, uint64_t>);
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random() % i]);
}

// A number in [0, 1) from the highest 53 bits.
constexpr double unit_of(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

}  // namespace sutor
