// Whole files, streamed: compared, hashed, copied. A few MiB of memory, whatever the size.
#pragma once

#include <filesystem>

#include "csrc/base/file.h"
#include "csrc/base/hash.h"

namespace sutor {

bool same_content(const InputFile& a, const InputFile& b);

Digest content_digest(const InputFile& file);

// Appends a whole file to another one and returns the digest of its bytes.
Digest append_hashed(const InputFile& from, OutputFile& to);

}  // namespace sutor
