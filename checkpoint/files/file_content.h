// Whole files, streamed: compared, hashed, copied. A few MiB of memory, whatever the size.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "csrc/base/file.h"
#include "csrc/base/hash.h"

namespace sutor {

// Gives all bytes of the file to `sink`, in order, in chunks of at most 1 MiB.
void stream_content(const InputFile& file,
                    const std::function<void(std::span<const std::byte>)>& sink);

bool same_content(const InputFile& a, const InputFile& b);

Digest content_digest(const InputFile& file);

// Appends a whole file to another one and returns the digest of its bytes.
Digest append_hashed(const InputFile& from, OutputFile& to);

}  // namespace sutor
