// Dispatch by all-to-all over ep; over etp rows are gathered and results reduced and scattered.
#include <algorithm>
#include <numeric>

#include "csrc/ops/cpu/torch_ops.h"
#include "layers/moe/dispatch_rows.h"
#include "layers/moe/expert_destinations.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

struct AllToAllHandle final : DispatchHandle {
  at::Tensor position_TK;  // int64: row of the buffer sent that holds (token, choice)
  at::Tensor send_token;   // int64 [sent]: tokens in the order of sending
  std::vector<int64_t> send_rows, recv_rows;  // to and from each rank of ep
  std::vector<int64_t> partner_rows;          // that arrived at each rank of etp
};

class AllToAllDispatcher final : public TokenDispatcher {
 public:
  AllToAllDispatcher(Comm& ep, Comm& etp, const ExpertPlacement& placement)
      : ep_(ep), etp_(etp), placement_(placement) {}

  Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                      const at::Tensor& topk_weights, int layer,
                      const std::vector<int64_t>& slot_of_local) const override {
    auto handle = std::make_shared<AllToAllHandle>();
    handle->num_tokens = topk_idx.size(0);
    handle->top_k = topk_idx.size(1);
    const std::vector<int64_t> send_counts = order_for_sending(topk_idx, layer, *handle);
    const int64_t local = static_cast<int64_t>(slot_of_local.size());
    const std::vector<int64_t> counts =
        with_partners(exchange_counts(send_counts, local, *handle), *handle);
    Dispatched out;
    out.handle = handle;
    out.offsets = slot_order(counts, slot_of_local, *handle);
    out.source = dispatch_gradients(x, *handle);
    const at::Tensor in_order =
        gathered_rows(topk_weights.reshape({-1}), inverse_permutation(handle->position_TK));
    const at::Tensor weights = to_partners(
        exchanged_rows(in_order, handle->send_rows, handle->recv_rows, ep_, "dispatch weights"),
        *handle);
    out.weights_R = gathered_rows(weights, handle->row_index_R);
    return out;
  }

  at::Tensor dispatch_gradients(const at::Tensor& x, const DispatchHandle& handle) const override {
    const AllToAllHandle& own = own_handle(handle);
    return to_partners(exchanged_rows(gathered_rows(x, own.send_token), own.send_rows,
                                      own.recv_rows, ep_, "dispatch rows"),
                       own);
  }

  at::Tensor combine(const at::Tensor& rows, const DispatchHandle& handle) const override {
    const AllToAllHandle& own = own_handle(handle);
    return summed_rows(back(rows, own, "combine rows"), own.position_TK, own.num_tokens);
  }

  at::Tensor combine_weight_gradients(const at::Tensor& values,
                                      const DispatchHandle& handle) const override {
    const AllToAllHandle& own = own_handle(handle);
    return gathered_rows(back(values, own, "return weights"), own.position_TK)
        .view({own.num_tokens, own.top_k});
  }

 private:
  static const AllToAllHandle& own_handle(const DispatchHandle& handle) {
    return static_cast<const AllToAllHandle&>(handle);
  }

  // Sorts the choices by (rank, local number). Fills position_TK, send_token and send_rows; returns
  // the number of rows for each of these places in that order, [ep * local_numbers].
  std::vector<int64_t> order_for_sending(const at::Tensor& topk_idx, int layer,
                                         AllToAllHandle& handle) const {
    const int64_t rows = topk_idx.numel();
    const int64_t local = placement_.local_numbers(), buckets = ep_.size() * local;
    const std::span experts(topk_idx.data_ptr<int64_t>(), static_cast<size_t>(rows));
    const std::vector<int64_t> own = choices_by_expert(experts, placement_.num_experts());
    std::vector<int64_t> all = own;
    if (placement_.with_replicas(layer) != nullptr) {
      ep_.all_reduce(std::span(all), ReduceOp::kSum, "dispatch load");
    }
    ExpertDestinations destinations(placement_, layer, own, all);
    std::vector<int64_t> bucket(static_cast<size_t>(rows)), counts(buckets, 0), next(buckets, 0);
    for (int64_t i = 0; i < rows; ++i) {
      bucket[i] = destinations.take(static_cast<int>(experts[i]));
      ++counts[bucket[i]];
    }
    std::exclusive_scan(counts.begin(), counts.end(), next.begin(), int64_t{0});
    handle.position_TK = empty_longs(rows);
    handle.send_token = empty_longs(rows);
    int64_t* position = handle.position_TK.data_ptr<int64_t>();
    int64_t* token = handle.send_token.data_ptr<int64_t>();
    for (int64_t i = 0; i < rows; ++i) {
      position[i] = next[bucket[i]]++;
      token[position[i]] = i / handle.top_k;
    }
    handle.send_rows.assign(ep_.size(), 0);
    for (int64_t p = 0; p < buckets; ++p) handle.send_rows[p / local] += counts[p];
    return counts;
  }

  // Received counts [source rank * local + local expert]; fills recv_rows.
  std::vector<int64_t> exchange_counts(const std::vector<int64_t>& send, int64_t local,
                                       AllToAllHandle& handle) const {
    std::vector<int64_t> recv(send.size());
    const std::vector<int64_t> ones(ep_.size(), 1);
    ep_.all_to_all(send.data(), ones, recv.data(), ones, local * 8, "dispatch counts");
    handle.recv_rows.assign(ep_.size(), 0);
    for (size_t p = 0; p < recv.size(); ++p) handle.recv_rows[p / local] += recv[p];
    return recv;
  }

  // The counts of all etp ranks one after the other; fills partner_rows.
  std::vector<int64_t> with_partners(const std::vector<int64_t>& counts,
                                     AllToAllHandle& handle) const {
    const size_t each = counts.size();
    std::vector<int64_t> all(each * static_cast<size_t>(etp_.size()));
    std::copy(counts.begin(), counts.end(), all.begin() + each * etp_.rank());
    const std::vector<int64_t> bytes(etp_.size(), static_cast<int64_t>(each) * 8);
    etp_.all_gather(std::as_writable_bytes(std::span(all)), bytes, "dispatch counts");
    for (int r = 0; r < etp_.size(); ++r) {
      const auto begin = all.begin() + each * r;
      handle.partner_rows.push_back(std::accumulate(begin, begin + each, int64_t{0}));
    }
    return all;
  }

  // Rows lie by (etp rank, source rank, local expert); fills row_index_R with the order by slot and
  // returns the slots' offsets.
  std::vector<int64_t> slot_order(const std::vector<int64_t>& recv_counts,
                                  const std::vector<int64_t>& slot_of_local,
                                  AllToAllHandle& handle) const {
    const int64_t local = static_cast<int64_t>(slot_of_local.size());
    const int64_t slots = *std::max_element(slot_of_local.begin(), slot_of_local.end()) + 1;
    std::vector<int64_t> offsets(slots + 1, 0);
    for (size_t p = 0; p < recv_counts.size(); ++p) {
      if (recv_counts[p] == 0) continue;  // also of numbers that are not in use
      offsets[slot_of_local[p % local] + 1] += recv_counts[p];
    }
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
    std::vector<int64_t> next(offsets.begin(), offsets.end() - 1);
    handle.row_index_R = empty_longs(offsets.back());
    int64_t* index = handle.row_index_R.data_ptr<int64_t>();
    int64_t row = 0;
    for (size_t p = 0; p < recv_counts.size(); ++p) {
      for (int64_t i = 0; i < recv_counts[p]; ++i) index[next[slot_of_local[p % local]]++] = row++;
    }
    return offsets;
  }

  at::Tensor to_partners(const at::Tensor& rows, const AllToAllHandle& handle) const {
    return etp_.size() == 1 ? rows
                            : gather_rows(rows, handle.partner_rows, etp_, "dispatch over etp");
  }

  // Slot order -> order of arrival, the etp ranks' parts added -> the ranks that the rows came
  // from, in their order of sending.
  at::Tensor back(const at::Tensor& rows, const AllToAllHandle& handle, const char* name) const {
    at::Tensor arrived = gathered_rows(rows, inverse_permutation(handle.row_index_R));
    if (etp_.size() > 1) {
      arrived = reduce_scatter_rows(arrived, handle.partner_rows, etp_, "combine over etp");
    }
    return exchanged_rows(arrived, handle.recv_rows, handle.send_rows, ep_, name);
  }

  Comm &ep_, &etp_;
  const ExpertPlacement& placement_;
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_all_to_all_dispatcher(Comm& ep, Comm& etp,
                                                            const ExpertPlacement& placement) {
  return std::make_unique<AllToAllDispatcher>(ep, etp, placement);
}

}  // namespace sutor
