// Shared by h5.cc and h5_reader.cc; nobody else includes it.
#pragma once

#include <hdf5.h>

#include <string>
#include <string_view>
#include <vector>

namespace sutor::h5 {

// Silences the library's printing of failures in this thread, and forbids plugins: shared objects
// that it would load from a directory named in the environment.
void prepare_thread();

// Whether a type of safetensors is stored as bytes with an attribute `dtype`: elements of one byte,
// and elements of other sizes as the list of their bytes.
bool is_byte_type(std::string_view type);

// The type of a dataset, in the file and in memory alike, so that the library never converts an
// element. Internal error for an unknown name.
hid_t file_type(std::string_view type);

// "/a/b" -> {"a", "b"}
std::vector<std::string> steps_of(const std::string& path);

}  // namespace sutor::h5
