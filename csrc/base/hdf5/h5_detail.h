// What the two halves of h5.h share. Not for others.
#pragma once

#include <hdf5.h>

#include <string>
#include <string_view>
#include <vector>

namespace sutor::h5 {

// The library prints every failure unless told otherwise, per thread; plugins are shared objects
// that it would load from a directory named in the environment.
void prepare_thread();

// Types of safetensors that are stored as bytes with an attribute `dtype`: elements of one byte,
// and elements of other sizes as the list of their bytes.
bool is_byte_type(std::string_view type);

// The type of a dataset in the file and in memory: as both are the same, the library never converts
// an element. Internal error for an unknown name.
hid_t file_type(std::string_view type);

// "/a/b" -> {"a", "b"}
std::vector<std::string> steps_of(const std::string& path);

}  // namespace sutor::h5
