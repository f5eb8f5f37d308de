// The seal of an HDF5 file that sutor writes: its last bytes, behind those that the library knows
// of, hold a sum of all bytes before them. Damage is thus found before the library reads anything:
// not all bytes of its own have a checksum, and some wrong ones it does not survive.
#pragma once

#include <filesystem>

#include "csrc/base/error_codes.h"

namespace sutor::h5 {

// A root attribute that says that the file has a seal, so that a seal that is lost shows.
inline constexpr const char* kSealedAttribute = "sealed";

// Appends the seal to a finished file and fsyncs it. Throws E0501, E0502.
void seal_file(const std::filesystem::path& path);

// Whether the file ends with a seal. Throws `corrupt` when its bytes are not those that were
// sealed, `unreadable` when it cannot be read.
bool check_seal(const std::filesystem::path& path, ErrorCode unreadable,
                ErrorCode corrupt = ErrorCode::kCorrupted);

}  // namespace sutor::h5
