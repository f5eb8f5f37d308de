// Counts the bytes of this process's tensors, and their peak: by a wrapper around torch's CPU
// allocator, and on a GPU by torch's caching allocator. RSS says less: it includes the program
// itself and what the C library keeps for reuse.
#pragma once

#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstdint>
#include <string>

namespace sutor::ops {

// Call it once, before the first tensor is made. It also tells the C library to keep freed blocks
// for reuse: returning them to the system costs a page fault for every page of every step.
void install_counting_allocator();

struct MemoryUse {
  int64_t allocated = 0;  // bytes of the tensors that there are
  int64_t reserved = 0;   // with what is kept for reuse; on the CPU the same
  int64_t peak = 0;       // of `allocated`, since the start
};
MemoryUse memory_use(at::Device device);

// What a tensor is for. A tensor has the purpose that the process has when the tensor is made; of
// the work that threads do for it, too.
enum class MemoryItem { kActivations, kWeights, kGradients, kOptimizer, kDispatch, kLogits };
inline constexpr size_t kMemoryItems = 6;
// "activations", "weights", "gradients", "optimizer", "dispatch", "logits".
const char* name_of(MemoryItem item);

// The purpose within a scope. One thread at a time has such scopes.
class MemoryScope {
 public:
  explicit MemoryScope(MemoryItem item);
  ~MemoryScope();
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  MemoryItem before_;
};

// Of what the peak of the CPU's tensors consisted, bytes by MemoryItem. Nothing is known of GPUs.
std::array<int64_t, kMemoryItems> items_of_peak();
// The peak from now on.
void reset_peak();

// Tensors without values (torch's device meta): they have shapes, take no memory, and count in the
// same counters as if they had it. Call it once, after install_counting_allocator(). Their
// addresses are of no memory.
void install_shape_allocator();
bool is_without_values(const void* address);

// What torch says of an allocation that failed, in one line.
std::string allocation_text(const c10::OutOfMemoryError& error);

}  // namespace sutor::ops
