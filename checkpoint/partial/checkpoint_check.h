// What makes a checkpoint valid, in one place: whoever resumes from one, counts one, replaces one
// or deletes one asks here. Free of MPI: one rank asks and tells the others.
#pragma once

#include <filesystem>

namespace sutor {

enum class CheckDepth {
  kStructure,  // manifest, sizes, indices, coverage, state: everything but the tensors' bytes
  kData,       // all of it: reads every byte
};

// Throws what a CheckpointReader throws (E0341..E0347), E0342 when the directory's name is that of
// another step, E0301 when a file cannot be read now, which says nothing about what it holds.
// `threads`: for the data; 0 = all.
void check_checkpoint(const std::filesystem::path& directory, CheckDepth depth, int threads = 0);

// Whether check_checkpoint(directory, kData) throws nothing, on one thread, beside other work. What
// this process found valid, or noted, is not read again while the sizes and times of its files stay
// what they were.
bool is_valid_checkpoint(const std::filesystem::path& directory);
// The word of whoever compared all its bytes with memory, or checked them.
void note_valid_checkpoint(const std::filesystem::path& directory);

}  // namespace sutor
