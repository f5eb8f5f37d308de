// Dispatch by all-to-all over ep; gathers rows and reduce-scatters results over etp.
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/div.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "csrc/ops/device/host_window.h"
#include "csrc/ops/row_order.h"
#include "csrc/ops/shapes/planned_routing.h"
#include "csrc/ops/sum_rows.h"
#include "layers/moe/dispatch_rows.h"
#include "layers/moe/expert_destinations.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

struct AllToAllHandle final : DispatchHandle {
  at::Tensor position_TK;                     // int64: row of (token, choice) in the send buffer
  at::Tensor choice_of_sent;                  // int64 [sent]: the inverse
  at::Tensor row_of_arrival;                  // int64 [R]: slot-sorted row of each row that arrived
  at::Tensor send_token;                      // int64 [sent]: tokens in the order of sending
  std::vector<int64_t> send_rows, recv_rows;  // to and from each rank of ep
  std::vector<int64_t> partner_rows;          // that arrived at each rank of etp
};

class AllToAllDispatcher final : public TokenDispatcher {
 public:
  AllToAllDispatcher(Comm& ep, Comm& etp, const ExpertPlacement& placement)
      : ep_(ep), etp_(etp), placement_(placement) {}

  Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                      const at::Tensor& topk_weights, int layer,
                      const LocalSlots& slots) const override {
    auto handle = std::make_shared<AllToAllHandle>();
    handle->num_tokens = topk_idx.size(0);
    handle->top_k = topk_idx.size(1);
    const std::vector<int64_t> send_counts = order_for_sending(topk_idx, layer, *handle);
    const std::vector<int64_t> counts =
        with_partners(exchange_counts(send_counts, slots.size(), *handle), *handle);
    Dispatched out;
    out.handle = handle;
    order_by_slot(counts, slots, *handle, out, x.device());
    out.source = dispatch_gradients(x, *handle);
    const at::Tensor in_order = gathered_rows(topk_weights.reshape({-1}), handle->choice_of_sent);
    const at::Tensor weights = to_partners(
        exchanged_rows(in_order, handle->send_rows, handle->recv_rows, ep_, "dispatch weights"),
        *handle);
    out.weights_R = gathered_rows(weights, out.row_index_R);
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
    return ops::sum_rows(back(rows, own, "combine rows"), own.position_TK, own.num_tokens);
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

  // Sorts the choices by (rank, local number). Fills what the handle has of sending; returns the
  // number of rows for each of these places in that order, [ep * local_numbers].
  std::vector<int64_t> order_for_sending(const at::Tensor& topk_idx, int layer,
                                         AllToAllHandle& handle) const {
    const int64_t local = placement_.local_numbers(), places = ep_.size() * local;
    const at::Tensor experts = topk_idx.contiguous().view({-1});
    std::vector<int64_t> counts(static_cast<size_t>(places), 0);
    if (placement_.with_replicas(layer) == nullptr) {
      const ops::RowOrder order =
          ops::order_by_slot(experts, owner_places(layer, experts.device()), places);
      handle.position_TK = order.position;
      handle.choice_of_sent = order.choice_R;
      const std::vector<int64_t> offsets = host_longs(order.offsets);
      for (int64_t p = 0; p < places; ++p) counts[p] = offsets[p + 1] - offsets[p];
    } else {
      order_with_replicas(experts, layer, handle, counts);
    }
    handle.send_token = at::div(handle.choice_of_sent, handle.top_k, "floor");
    handle.send_rows.assign(ep_.size(), 0);
    for (int64_t p = 0; p < places; ++p) handle.send_rows[p / local] += counts[p];
    return counts;
  }

  // int64 [experts]: the place of each expert's owner; made once for each layer.
  const at::Tensor& owner_places(int layer, at::Device device) const {
    at::Tensor& places = owner_places_[layer];
    if (!places.defined()) {
      places =
          ops::longs_on(ExpertDestinations::owners(placement_, layer), ops::table_device(device));
    }
    return places;
  }

  // Where experts are replicated the ranks first add up how often each is chosen. A rank's choices
  // of an expert, in order, then go to its copies in runs, whose lengths the host knows.
  void order_with_replicas(const at::Tensor& experts, int layer, AllToAllHandle& handle,
                           std::vector<int64_t>& counts) const {
    const ops::RowOrder by_expert = ops::order_by_slot(
        experts, at::arange(placement_.num_experts(), experts.options()), placement_.num_experts());
    const std::vector<int64_t> offsets = host_longs(by_expert.offsets);
    std::vector<int64_t> own;
    for (size_t e = 0; e + 1 < offsets.size(); ++e) own.push_back(offsets[e + 1] - offsets[e]);
    std::vector<int64_t> all = own;
    ep_.all_reduce(std::span(all), ReduceOp::kSum, "dispatch load");
    ExpertDestinations destinations(placement_, layer, own, all);
    std::vector<int64_t> place_of_row;  // in the order of experts
    for (size_t e = 0; e < own.size(); ++e) {
      for (int64_t i = 0; i < own[e]; ++i) {
        place_of_row.push_back(destinations.take(static_cast<int>(e)));
        ++counts[place_of_row.back()];
      }
    }
    const at::Tensor place_of_choice =
        gathered_rows(ops::longs_on(place_of_row, experts.device()), by_expert.position);
    const auto places = static_cast<int64_t>(counts.size());
    const ops::RowOrder order =
        ops::order_by_slot(place_of_choice, at::arange(places, experts.options()), places);
    handle.position_TK = order.position;
    handle.choice_of_sent = order.choice_R;
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

  // The counts of all etp ranks, one after the other; fills partner_rows.
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

  // Rows arrive ordered by (etp rank, source rank, local expert); fills in their order by slot,
  // which the host knows from the counts.
  static void order_by_slot(const std::vector<int64_t>& recv_counts, const LocalSlots& slots,
                            AllToAllHandle& handle, Dispatched& out, at::Device device) {
    std::vector<int64_t> offsets(static_cast<size_t>(slots.count()) + 1, 0);
    const auto slot_of = [&](size_t p) { return slots[static_cast<int64_t>(p) % slots.size()]; };
    for (size_t p = 0; p < recv_counts.size(); ++p) {
      if (recv_counts[p] == 0) continue;  // also for local ids that are not in use
      offsets[slot_of(p) + 1] += recv_counts[p];
    }
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
    std::vector<int64_t> next(offsets.begin(), offsets.end() - 1);
    std::vector<int64_t> index(static_cast<size_t>(offsets.back())), row_of_arrival;
    for (size_t p = 0; p < recv_counts.size(); ++p) {
      for (int64_t i = 0; i < recv_counts[p]; ++i) {
        const int64_t row = next[slot_of(p)]++;
        index[row] = static_cast<int64_t>(row_of_arrival.size());
        row_of_arrival.push_back(row);
      }
    }
    out.offsets = ops::longs_on(offsets, ops::table_device(device));
    out.row_index_R = ops::longs_on(index, device);
    handle.row_of_arrival = ops::longs_on(row_of_arrival, device);
  }

  at::Tensor to_partners(const at::Tensor& rows, const AllToAllHandle& handle) const {
    return etp_.size() == 1 ? rows
                            : gather_rows(rows, handle.partner_rows, etp_, "dispatch over etp");
  }

  // From slot order to order of arrival, adding the partial sums of the etp ranks, and back to the
  // ranks that sent the rows, in their order of sending.
  at::Tensor back(const at::Tensor& rows, const AllToAllHandle& handle, const char* name) const {
    at::Tensor arrived = gathered_rows(rows, handle.row_of_arrival);
    if (etp_.size() > 1) {
      arrived = reduce_scatter_rows(arrived, handle.partner_rows, etp_, "combine over etp");
    }
    return exchanged_rows(arrived, handle.recv_rows, handle.send_rows, ep_, name);
  }

  Comm &ep_, &etp_;
  const ExpertPlacement& placement_;
  mutable std::map<int, at::Tensor> owner_places_;  // by layer
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_all_to_all_dispatcher(Comm& ep, Comm& etp,
                                                            const ExpertPlacement& placement) {
  return std::make_unique<AllToAllDispatcher>(ep, etp, placement);
}

}  // namespace sutor
