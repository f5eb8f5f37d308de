// The heaps in which the HDF5 library keeps text of variable length. They have no checksum, and the
// library reads damaged ones for ever, so they are looked at before it does.
#pragma once

#include "csrc/base/file.h"

namespace sutor::h5 {

// Whether all heaps in the file can be walked through to their ends.
bool has_sound_heaps(const InputFile& file);

}  // namespace sutor::h5
