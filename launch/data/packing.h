// Puts segments of documents into packs of bounded size, deterministically.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sutor {

// Segments that are sorted together: enough for packs > 98% full with usual lengths, few enough
// that the segments of a pack still change from epoch to epoch.
inline constexpr int64_t kPackingWindow = 1024;

// Indices of `lengths` (each 1 .. capacity) for every pack. Best fit decreasing within each
// `packing_window` entries; packs that still have room stay open for later ones. Every index
// appears once; those of a pack are in the order in which they were placed.
std::vector<std::vector<int64_t>> pack(std::span<const int64_t> lengths, int64_t capacity,
                                       int64_t packing_window = kPackingWindow);

}  // namespace sutor
