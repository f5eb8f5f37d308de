// Dispatch by all-to-all over ep; over etp rows are gathered and results reduced and scattered.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "csrc/ops/cpu/torch_ops.h"
#include "layers/moe/dispatch_rows.h"
#include "layers/parallel/row_collectives.h"
#include "parallel_state/placement/balanced_placement.h"

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
    out.source = dispatch_rows(x, *handle);
    const at::Tensor in_order =
        gathered_rows(topk_weights.reshape({-1}), inverse_permutation(handle->position_TK));
    const at::Tensor weights = to_partners(
        exchange(in_order, handle->send_rows, handle->recv_rows, "dispatch weights"), *handle);
    out.weights_R = gathered_rows(weights, handle->row_index_R);
    return out;
  }

  at::Tensor dispatch_gradients(const at::Tensor& d_y,
                                const DispatchHandle& handle) const override {
    return dispatch_rows(d_y, own_handle(handle));
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

  at::Tensor dispatch_rows(const at::Tensor& x, const AllToAllHandle& handle) const {
    return to_partners(exchange(gathered_rows(x, handle.send_token), handle.send_rows,
                                handle.recv_rows, "dispatch rows"),
                       handle);
  }

  // Sorts the choices by (rank, local number). Fills position_TK, send_token and send_rows; returns
  // the number of rows for each of these places in that order, [ep * local_numbers].
  std::vector<int64_t> order_for_sending(const at::Tensor& topk_idx, int layer,
                                         AllToAllHandle& handle) const {
    const int64_t rows = topk_idx.numel();
    const int64_t local = placement_.local_numbers(), buckets = ep_.size() * local;
    const int64_t* expert = topk_idx.data_ptr<int64_t>();
    std::vector<int64_t> of_expert(static_cast<size_t>(placement_.num_experts()), 0);
    for (int64_t i = 0; i < rows; ++i) ++of_expert[expert[i]];
    const std::map<int, std::vector<double>> shares = shares_of(layer, of_expert);
    std::vector<Destinations> destinations;
    for (int e = 0; e < placement_.num_experts(); ++e) {
      const auto found = shares.find(e);
      destinations.push_back(destinations_of(layer, e, of_expert[e],
                                             found == shares.end() ? nullptr : &found->second));
    }
    std::vector<int64_t> bucket(static_cast<size_t>(rows)), counts(buckets, 0), next(buckets, 0);
    for (int64_t i = 0; i < rows; ++i) {
      bucket[i] = destinations[expert[i]].take();
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

  // Of each replicated expert: the ranks' shares of its tokens that make the ranks level in this
  // very batch, the same on all of them. Collective where the layer has any.
  std::map<int, std::vector<double>> shares_of(int layer, std::vector<int64_t> counts) const {
    std::map<int, std::vector<double>> shares;
    const LayerPlacement* placement = placement_.with_replicas(layer);
    if (placement == nullptr) return shares;
    ep_.all_reduce(std::span(counts), ReduceOp::kSum, "dispatch load");
    const auto by_rank =
        replica_shares(*placement, std::vector<double>(counts.begin(), counts.end()), ep_.size());
    for (size_t i = 0; i < by_rank.size(); ++i) shares[placement->replicated[i]] = by_rank[i];
    return shares;
  }

  // Where the next choices of an expert go: `left` more to the last place, then to the one before.
  struct Destinations {
    struct Quota {
      int64_t bucket, left;
    };
    std::vector<Quota> quotas;
    int64_t take() {
      while (quotas.back().left == 0) quotas.pop_back();
      --quotas.back().left;
      return quotas.back().bucket;
    }
  };

  // `count` choices of an expert over the ranks that have it, by their shares; null: its owner
  // takes all.
  Destinations destinations_of(int layer, int expert, int64_t count,
                               const std::vector<double>* shares) const {
    const auto bucket_on = [&](int rank) {
      return int64_t{rank} * placement_.local_numbers() +
             placement_.local_id_on(layer, expert, rank);
    };
    if (!shares) return {{{bucket_on(placement_.ep_rank_of(layer, expert)), count}}};
    Destinations result;
    double share = 0;
    int64_t given = 0;
    for (int rank = 0; rank < ep_.size(); ++rank) {
      share += (*shares)[rank];
      const bool last = rank + 1 == ep_.size();
      const int64_t until =
          last ? count : std::min<int64_t>(count, std::llround(share * static_cast<double>(count)));
      if (until > given) result.quotas.push_back({bucket_on(rank), until - given});
      given = std::max(given, until);
    }
    return result;
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

  at::Tensor exchange(const at::Tensor& send, const std::vector<int64_t>& send_rows,
                      const std::vector<int64_t>& recv_rows, const char* name) const {
    std::vector<int64_t> shape = send.sizes().vec();
    shape[0] = std::accumulate(recv_rows.begin(), recv_rows.end(), int64_t{0});
    at::Tensor recv = at::empty(shape, send.options());
    const int64_t row =
        (send.dim() == 1 ? 1 : send.size(1)) * static_cast<int64_t>(send.element_size());
    ep_.all_to_all(send.data_ptr(), send_rows, recv.data_ptr(), recv_rows, row, name);
    return recv;
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
    return exchange(arrived, handle.recv_rows, handle.send_rows, name);
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
