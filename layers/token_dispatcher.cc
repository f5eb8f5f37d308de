#include "layers/token_dispatcher.h"

#include <numeric>

#include "csrc/ops/torch_ops.h"

namespace sutor {
namespace {

at::Tensor longs(int64_t count) { return at::empty({count}, at::kLong); }

at::Tensor gathered(const at::Tensor& from, const at::Tensor& index) {
  return at::index_select(from, 0, index);
}

// Sums the rows of each token, wherever they lie in `rows`.
at::Tensor summed(const at::Tensor& rows, const DispatchHandle& handle) {
  const int64_t hidden = rows.size(1);
  at::Tensor y = at::empty({handle.num_tokens, hidden}, rows.options());
  const int64_t* position = handle.position_TK.data_ptr<int64_t>();
  ops::dispatch_dtype(rows.scalar_type(), [&](auto t) {
    using T = decltype(t);
    ops::parallel(handle.num_tokens, 16, [&](int64_t begin, int64_t end) {
      ops::sum_rows(ops::data<T>(rows), position + begin * handle.top_k,
                    ops::data<T>(y) + begin * hidden, end - begin, handle.top_k, hidden);
    });
  });
  return y;
}

class LocalDispatcher final : public TokenDispatcher {
 public:
  Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                      const at::Tensor& topk_weights, int layer,
                      const std::vector<int64_t>& slot_of_local) const override {
    auto handle = std::make_shared<DispatchHandle>();
    handle->num_tokens = topk_idx.size(0);
    handle->top_k = topk_idx.size(1);
    const int64_t rows = topk_idx.numel(), slots = static_cast<int64_t>(slot_of_local.size());
    const int64_t* expert = topk_idx.data_ptr<int64_t>();
    Dispatched out{x, at::empty({rows}, at::kFloat), std::vector<int64_t>(slots + 1, 0), handle};
    for (int64_t i = 0; i < rows; ++i) ++out.offsets[slot_of_local[expert[i]] + 1];
    std::partial_sum(out.offsets.begin(), out.offsets.end(), out.offsets.begin());
    std::vector<int64_t> next(out.offsets.begin(), out.offsets.end() - 1);
    handle->position_TK = longs(rows);
    handle->row_index_R = longs(rows);
    int64_t* position = handle->position_TK.data_ptr<int64_t>();
    int64_t* index = handle->row_index_R.data_ptr<int64_t>();
    float* weights = out.weights_R.data_ptr<float>();
    const float* given = topk_weights.data_ptr<float>();
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = next[slot_of_local[expert[i]]]++;
      position[i] = row;
      index[row] = i / handle->top_k;
      weights[row] = given[i];
    }
    return out;
  }
  at::Tensor resend(const at::Tensor& x, const DispatchHandle&) const override { return x; }
  at::Tensor combine(const at::Tensor& rows, const DispatchHandle& handle) const override {
    return summed(rows, handle);
  }
  at::Tensor return_values(const at::Tensor& values, const DispatchHandle& handle) const override {
    return gathered(values, handle.position_TK).view({handle.num_tokens, handle.top_k});
  }
};

class AllToAllDispatcher final : public TokenDispatcher {
 public:
  AllToAllDispatcher(Comm& ep, const ExpertPlacement& placement) : ep_(ep), placement_(placement) {}

  Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                      const at::Tensor& topk_weights, int layer,
                      const std::vector<int64_t>& slot_of_local) const override {
    auto handle = std::make_shared<DispatchHandle>();
    handle->num_tokens = topk_idx.size(0);
    handle->top_k = topk_idx.size(1);
    const std::vector<int64_t> send_counts = order_for_sending(topk_idx, layer, *handle);
    const int64_t local = static_cast<int64_t>(slot_of_local.size());
    const std::vector<int64_t> recv_counts = exchange_counts(send_counts, local, *handle);
    Dispatched out;
    out.handle = handle;
    out.offsets = slot_order(recv_counts, slot_of_local, *handle);
    out.source = resend(x, *handle);
    const at::Tensor weights =
        exchange(gathered(topk_weights.reshape({-1}), inverse(handle->position_TK)),
                 handle->send_rows, handle->recv_rows, "dispatch weights");
    out.weights_R = gathered(weights, handle->row_index_R);
    return out;
  }

  at::Tensor resend(const at::Tensor& x, const DispatchHandle& handle) const override {
    return exchange(gathered(x, handle.send_token), handle.send_rows, handle.recv_rows,
                    "dispatch rows");
  }

  at::Tensor combine(const at::Tensor& rows, const DispatchHandle& handle) const override {
    return summed(back(rows, handle, "combine rows"), handle);
  }

  at::Tensor return_values(const at::Tensor& values, const DispatchHandle& handle) const override {
    return gathered(back(values, handle, "return weights"), handle.position_TK)
        .view({handle.num_tokens, handle.top_k});
  }

 private:
  // Sorts the choices by (rank, local expert). Fills position_TK, send_token and send_rows; returns
  // the number of rows for each global expert in that order, [ep * local].
  std::vector<int64_t> order_for_sending(const at::Tensor& topk_idx, int layer,
                                         DispatchHandle& handle) const {
    const int64_t rows = topk_idx.numel(), experts = placement_.num_experts();
    const int64_t local = placement_.num_local_experts();
    const int64_t* expert = topk_idx.data_ptr<int64_t>();
    std::vector<int64_t> place(experts);
    for (int e = 0; e < experts; ++e) {
      place[e] = placement_.ep_rank_of(layer, e) * local + placement_.local_id(layer, e);
    }
    std::vector<int64_t> counts(experts, 0);
    for (int64_t i = 0; i < rows; ++i) ++counts[place[expert[i]]];
    std::vector<int64_t> next(experts, 0);
    std::exclusive_scan(counts.begin(), counts.end(), next.begin(), int64_t{0});
    handle.position_TK = longs(rows);
    handle.send_token = longs(rows);
    int64_t* position = handle.position_TK.data_ptr<int64_t>();
    int64_t* token = handle.send_token.data_ptr<int64_t>();
    for (int64_t i = 0; i < rows; ++i) {
      position[i] = next[place[expert[i]]]++;
      token[position[i]] = i / handle.top_k;
    }
    handle.send_rows.assign(ep_.size(), 0);
    for (int64_t p = 0; p < experts; ++p) handle.send_rows[p / local] += counts[p];
    return counts;
  }

  // Received counts [source rank * local + local expert]; fills recv_rows.
  std::vector<int64_t> exchange_counts(const std::vector<int64_t>& send, int64_t local,
                                       DispatchHandle& handle) const {
    std::vector<int64_t> recv(send.size());
    const std::vector<int64_t> ones(ep_.size(), 1);
    ep_.all_to_all(send.data(), ones, recv.data(), ones, local * 8, "dispatch counts");
    handle.recv_rows.assign(ep_.size(), 0);
    for (size_t p = 0; p < recv.size(); ++p) handle.recv_rows[p / local] += recv[p];
    return recv;
  }

  // Rows arrive by (source rank, local expert); fills row_index_R with the order by slot and
  // returns the slots' offsets.
  std::vector<int64_t> slot_order(const std::vector<int64_t>& recv_counts,
                                  const std::vector<int64_t>& slot_of_local,
                                  DispatchHandle& handle) const {
    const int64_t local = static_cast<int64_t>(slot_of_local.size());
    std::vector<int64_t> offsets(local + 1, 0);
    for (size_t p = 0; p < recv_counts.size(); ++p) {
      offsets[slot_of_local[p % local] + 1] += recv_counts[p];
    }
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
    std::vector<int64_t> next(offsets.begin(), offsets.end() - 1);
    handle.row_index_R = longs(offsets.back());
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

  // Slot order -> order of arrival -> the ranks that the rows came from, in their order of sending.
  at::Tensor back(const at::Tensor& rows, const DispatchHandle& handle, const char* name) const {
    return exchange(gathered(rows, inverse(handle.row_index_R)), handle.recv_rows, handle.send_rows,
                    name);
  }

  static at::Tensor inverse(const at::Tensor& permutation) {
    at::Tensor result = longs(permutation.numel());
    const int64_t* from = permutation.data_ptr<int64_t>();
    int64_t* to = result.data_ptr<int64_t>();
    for (int64_t i = 0; i < permutation.numel(); ++i) to[from[i]] = i;
    return result;
  }

  Comm& ep_;
  const ExpertPlacement& placement_;
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_local_dispatcher() {
  return std::make_unique<LocalDispatcher>();
}

std::unique_ptr<TokenDispatcher> make_all_to_all_dispatcher(Comm& ep,
                                                            const ExpertPlacement& placement) {
  return std::make_unique<AllToAllDispatcher>(ep, placement);
}

std::unique_ptr<TokenDispatcher> make_dispatcher(Comm& ep, const ExpertPlacement& placement) {
  return ep.size() == 1 ? make_local_dispatcher() : make_all_to_all_dispatcher(ep, placement);
}

}  // namespace sutor
