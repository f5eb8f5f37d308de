// Brings the rows of tokens to the ranks that hold their experts, and back. Every call is
// collective over the ranks that share a layer's experts (etp-ep), and every rank makes the same
// calls, with or without tokens. Forward: dispatch, then combine. Backward: dispatch_gradients the
// gradient of the output, then combine the gradients of the rows, and send the gradients of the
// weights back. Where etp divides the experts' matrices, each of its ranks works on the rows of all
// of them, and combine and combine_weight_gradients add the ranks' results. T tokens of this rank,
// K choices a token, H hidden, R rows that this rank's experts work on.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "csrc/comm/comm.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

// What a dispatcher remembers of the ways that rows took; each adds its own.
struct DispatchHandle {
  virtual ~DispatchHandle() = default;
  int64_t num_tokens = 0, top_k = 0;
  at::Tensor row_index_R;  // int64: row of the source that slot-sorted row r reads
};

// Rows by reference: row r, in slot order, is source[row_index_R[r]]; the gather is left to the
// expert kernels, which read a row once, while it is in cache.
struct Dispatched {
  at::Tensor source;             // [S, H]
  at::Tensor weights_R;          // fp32, routing weights in slot order
  std::vector<int64_t> offsets;  // [slots + 1] rows of each slot
  std::shared_ptr<const DispatchHandle> handle;
};

class TokenDispatcher {
 public:
  virtual ~TokenDispatcher() = default;
  // x [T, H], topk_idx [T, K] int64 (global ids), topk_weights fp32 [T, K]; slot_of_local maps this
  // rank's local expert ids to slots.
  virtual Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                              const at::Tensor& topk_weights, int layer,
                              const std::vector<int64_t>& slot_of_local) const = 0;
  // Another [T, H] tensor along the same ways: the new source; same handle, offsets and order.
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
// Every rank gets all rows and takes those of its experts: the plain way, more traffic. Over the
// ranks that share a layer's experts; ep_rank is this rank's place among those of the placement.
std::unique_ptr<TokenDispatcher> make_all_gather_dispatcher(Comm& etp_ep, int ep_rank,
                                                            const ExpertPlacement& placement);
// The one that the recipe names, or none where all experts are here.
std::unique_ptr<TokenDispatcher> make_dispatcher(const ParallelState& parallel);

}  // namespace sutor
