// Files with the digests that their content asks for, so that a fuzzer comes to the parser behind.
#pragma once

#include <string>

namespace sutor::fuzz {

// A manifest (checkpoint/format/manifest_json.h): its first line is made anew.
std::string resigned_manifest(const std::string& bytes);
// An index whose last bytes are the digest of those before (checkpoint/store/store_index.h).
std::string resigned_index(std::string bytes);
// An HDF5 file whose last bytes are the sum of those before (csrc/base/hdf5/seal.h).
std::string resealed(const std::string& bytes);

}  // namespace sutor::fuzz
