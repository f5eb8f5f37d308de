// Pictures of few colours as PNG files.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sutor {

using Colour = std::array<uint8_t, 3>;  // red, green, blue

// pixels: rows of `width` indices into `palette`, from the top; at most 16 colours. Four bits a
// pixel, not compressed.
std::string png_picture(int width, int height, std::span<const uint8_t> pixels,
                        const std::vector<Colour>& palette);

}  // namespace sutor
