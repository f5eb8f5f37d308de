// What the fuzzers and the replay of their corpora share: one target for each reader of files that
// may come from elsewhere. A target gets the bytes of one file; it ends in a value or in a
// sutor::Error that is not an internal one. Everything else is a finding.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace sutor::fuzz {

struct FuzzTarget {
  const char* name;  // as tests/fuzz/run.sh has it
  void (*read)(const std::string& bytes);
  std::vector<std::string> (*seeds)();  // whole files, from which a fuzzer starts
};

// Reads the bytes as the target does. Lets everything pass but a sutor::Error with a user's code.
void run(const FuzzTarget& target, const std::string& bytes);

// For readers that take a path: puts the bytes into a file of this process, the same one each time,
// which is removed when the process ends.
std::filesystem::path input_file(std::string_view bytes, const std::string& name);

// For seeds of writers that take a path: what `write` left there.
template <typename Write>
std::string written(const std::string& name, Write&& write);
std::filesystem::path empty_place(const std::string& name);
std::string bytes_of(const std::filesystem::path& file);

template <typename Write>
std::string written(const std::string& name, Write&& write) {
  const std::filesystem::path place = empty_place(name);
  write(place);
  return bytes_of(place);
}

}  // namespace sutor::fuzz
