// Sends the rows of tokens to the ranks of their experts, and back. Every call is collective over
// the ranks that share a layer's experts (etp-ep), and every rank makes the same calls, with or
// without tokens. Forward: dispatch, then combine. Backward: dispatch_gradients for the output's
// gradient, combine for the rows' gradients, combine_weight_gradients for those of the routing
// weights. Where etp shards the experts' matrices, each of its ranks works on the rows of all of
// them, and combine and combine_weight_gradients add the ranks' results.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "csrc/comm/comm.h"
#include "csrc/ops/expert_mlp.h"
#include "layers/storage/local_slots.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

// What a dispatcher remembers of a dispatch; each kind adds its own members.
struct DispatchHandle {
  virtual ~DispatchHandle() = default;
  int64_t num_tokens = 0, top_k = 0;
};

// The rows of this rank's experts, in the order of slots, and how they came.
struct Dispatched : ops::ExpertRows {
  std::shared_ptr<const DispatchHandle> handle;
};

class TokenDispatcher {
 public:
  virtual ~TokenDispatcher() = default;
  // x [T, H], topk_idx [T, K] int64 (global ids), topk_weights fp32 [T, K]; `slots`: of this rank's
  // local expert ids. With several ranks it reads the numbers of rows on the host, once.
  virtual Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                              const at::Tensor& topk_weights, int layer,
                              const LocalSlots& slots) const = 0;
  // Dispatches the gradients [T, H] of the output with the same handle: returns the new source
  // [S, H], with the same offsets and order.
  virtual at::Tensor dispatch_gradients(const at::Tensor& x,
                                        const DispatchHandle& handle) const = 0;
  // rows [R, H] in slot order -> [T, H]: the sum of each token's K rows, in order of k, in fp32.
  virtual at::Tensor combine(const at::Tensor& rows, const DispatchHandle& handle) const = 0;
  // values fp32 [R] in slot order -> [T, K].
  virtual at::Tensor combine_weight_gradients(const at::Tensor& values,
                                              const DispatchHandle& handle) const = 0;
};

// All experts on this rank: no communication, the source is x itself.
std::unique_ptr<TokenDispatcher> make_local_dispatcher();
// All-to-all of the rows over ep, then all-gather and reduce-scatter over etp.
std::unique_ptr<TokenDispatcher> make_all_to_all_dispatcher(Comm& ep, Comm& etp,
                                                            const ExpertPlacement& placement);
// Every rank gets all rows and takes those of its experts: simpler, with more traffic. Over the
// ranks that share a layer's experts; ep_rank is this rank's number in the placement.
std::unique_ptr<TokenDispatcher> make_all_gather_dispatcher(Comm& etp_ep, int ep_rank,
                                                            const ExpertPlacement& placement);
// The dispatcher that the recipe names; the local one where this rank has all experts.
std::unique_ptr<TokenDispatcher> make_dispatcher(const ParallelState& parallel);

}  // namespace sutor
