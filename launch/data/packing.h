// Puts pieces of documents into packs of bounded size, deterministically.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sutor {

// Documents that are sorted together: enough for packs > 98% full on usual lengths, few enough that
// what shares a pack still changes from epoch to epoch.
inline constexpr int64_t kPackingWindow = 1024;

// Indices of `lengths` (each 1 .. capacity) for every pack. Best fit decreasing within windows of
// `window` entries; packs that still have room stay open for later windows. Every index appears
// once; within a pack they are in the order in which they were placed.
std::vector<std::vector<int64_t>> pack(std::span<const int64_t> lengths, int64_t capacity,
                                       int64_t packing_window = kPackingWindow);

}  // namespace sutor
