// Checks that tiles cover every element of a tensor exactly once, whatever rectangles they are.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/format/tile_index.h"

namespace sutor {

// Throws E0346 naming tensor, kind, and the first elements that are in no tile or in two. `tiles`:
// all of one kind, each inside of the tensor. `where`: file or directory for the message.
void check_covered(const IndexedTensor& tensor, std::string_view kind,
                   const std::vector<const Tile*>& tiles, const std::string& where);

}  // namespace sutor
