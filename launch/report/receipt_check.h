// Checks a receipt, and everything that it lists, against the digests that it has.
#pragma once

#include <filesystem>

#include "checkpoint/compare/verification.h"

namespace sutor {

// By its name: receipt.json, or another one that ends so.
bool is_receipt(const std::filesystem::path& path);

// Reads every byte of every artifact, checkpoints, exports and base included, and names each that
// is not there or is another one than was listed. threads: 0 = all. Throws E0301 when the receipt
// cannot be read; what is wrong with it is told like what is wrong with the others: E0342 when it
// is none or was changed, E0343 for another version.
Verification verify_receipt(const std::filesystem::path& path, int threads);

}  // namespace sutor
