// Best fit decreasing, a window at a time.
#include "launch/data/packing.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "csrc/base/error.h"

namespace sutor {

std::vector<std::vector<int64_t>> pack(std::span<const int64_t> lengths, int64_t capacity,
                                       int64_t packing_window) {
  std::vector<std::vector<int64_t>> packs;
  std::multimap<int64_t, size_t> open;  // room left -> pack; equal rooms in the order of insertion
  const int64_t count = static_cast<int64_t>(lengths.size());
  for (int64_t begin = 0; begin < count; begin += packing_window) {
    std::vector<int64_t> order(std::min(packing_window, count - begin));
    std::iota(order.begin(), order.end(), begin);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
    for (const int64_t index : order) {
      const int64_t length = lengths[index];
      SUTOR_ASSERT(length >= 1 && length <= capacity);
      const auto fitting = open.lower_bound(length);
      int64_t room = capacity;
      size_t pack_index = packs.size();
      if (fitting == open.end()) {
        packs.emplace_back();
      } else {
        room = fitting->first;
        pack_index = fitting->second;
        open.erase(fitting);
      }
      packs[pack_index].push_back(index);
      if (room > length) open.emplace(room - length, pack_index);
    }
  }
  return packs;
}

}  // namespace sutor
