// What the library of matrix products takes beside their operands, in a dry run. oneDNN, which
// computes those of bf16 on a CPU, packs operands and sums in fp32 in memory that torch's allocator
// gives and counts.
#pragma once

#include <ATen/record_function.h>

namespace sutor::ops::shapes {

// While it lives, the products of bf16 that this thread makes of tensors without values count what
// oneDNN takes, and give it back.
class LibraryScratch {
 public:
  LibraryScratch();
  ~LibraryScratch();
  LibraryScratch(const LibraryScratch&) = delete;
  LibraryScratch& operator=(const LibraryScratch&) = delete;

 private:
  at::CallbackHandle handle_;
};

}  // namespace sutor::ops::shapes
