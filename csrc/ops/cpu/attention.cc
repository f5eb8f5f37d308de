#include "csrc/ops/attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <limits>

#include "csrc/ops/cpu/softmax_kernels.h"
#include "csrc/ops/cpu/torch_ops.h"
#include "csrc/ops/shapes/shapes.h"

namespace sutor::ops::cpu {
namespace {

constexpr int64_t kQueryBlock = 128;  // rows of scores at a time

// The inputs of a call, with the runs.
struct Inputs : AttentionInputs {
  Inputs(const AttentionInputs& in, const AttentionRuns& runs)
      : AttentionInputs(in), offsets(runs.offsets), keys(runs.keys) {}

  const std::vector<int64_t>& offsets;  // of the queries
  const KeyRows& keys;

  bool has_shared() const { return k_shared.defined(); }
  float sink(int64_t head) const {
    return sinks.defined() ? sinks.data_ptr<float>()[head]
                           : -std::numeric_limits<float>::infinity();
  }
  // The first key that a query attends to, given the number of keys up to its own.
  int64_t first_seen(int64_t keys_before) const {
    return sliding_window == 0 ? 0 : std::max<int64_t>(0, keys_before - sliding_window);
  }
  // For a block of scores over the keys from `first_key` on, whose first query attends up to `own`.
  CausalMask mask(int64_t own, int64_t first_key) const {
    CausalMask mask{.first_visible = own - first_key};
    if (sliding_window > 0) mask.sliding_window = sliding_window;
    return mask;
  }
  float score_scale() const { return static_cast<float>(scale); }
  int64_t heads() const { return q.size(1); }
  int64_t kv_heads() const { return k.size(1); }
  int64_t group() const { return heads() / kv_heads(); }
  int64_t dq() const { return q.size(2); }
  int64_t dk() const { return k.size(2); }
  int64_t dv() const { return v.size(2); }
};

// A unit of work is a run of queries (slot) and a kv head (begin).
std::vector<Unit> units_of(const Inputs& in) {
  std::vector<Unit> units;
  for (size_t d = 0; d + 1 < in.offsets.size(); ++d) {
    const double queries = static_cast<double>(in.offsets[d + 1] - in.offsets[d]);
    const double keys = static_cast<double>(in.keys.counts[d]);
    if (queries == 0) continue;
    for (int64_t h = 0; h < in.kv_heads(); ++h) {
      units.push_back({static_cast<int64_t>(d), h, h + 1, queries * keys + 64 * keys});
    }
  }
  return units;
}

at::Tensor scratch(int64_t rows, int64_t cols) { return at::empty({rows, cols}, at::kFloat); }

template <typename T>
void load(const at::Tensor& x, int64_t head, int64_t begin, int64_t count, const at::Tensor& to,
          int64_t column) {
  load_rows(data<T>(x) + begin * x.stride(0) + head * x.stride(1), x.stride(0),
            to.data_ptr<float>() + column, to.stride(0), count, x.size(2));
}

template <typename T>
void store(const at::Tensor& from, int64_t column, const at::Tensor& x, int64_t head, int64_t begin,
           int64_t count) {
  store_rows(from.data_ptr<float>() + column, from.stride(0),
             data<T>(x) + begin * x.stride(0) + head * x.stride(1), x.stride(0), count, x.size(2));
}

template <typename T>
void load_keys(const Inputs& in, int64_t head, int64_t begin, int64_t count, const at::Tensor& to) {
  load<T>(in.k, head, begin, count, to, 0);
  if (in.has_shared()) {
    load_rows(data<T>(in.k_shared) + begin * in.k_shared.stride(0), in.k_shared.stride(0),
              to.data_ptr<float>() + in.dk(), to.stride(0), count, in.k_shared.size(1));
  }
}

template <typename T>
void forward_unit(const Inputs& in, const Unit& unit, const at::Tensor& out,
                  const at::Tensor& lse) {
  const int64_t first = in.offsets[unit.slot], queries = in.offsets[unit.slot + 1] - first;
  const int64_t first_key = in.keys.begins[unit.slot], n = in.keys.counts[unit.slot];
  const int64_t before = n - queries;  // keys that every query attends to
  const int64_t block = std::min(queries, kQueryBlock);
  const at::Tensor keys = scratch(n, in.dq()), values = scratch(n, in.dv());
  const at::Tensor q = scratch(block, in.dq()), o = scratch(block, in.dv());
  const at::Tensor scores = at::empty({block * n}, at::kFloat);
  load_keys<T>(in, unit.begin, first_key, n, keys);
  load<T>(in.v, unit.begin, first_key, n, values, 0);
  for (int64_t g = 0; g < in.group(); ++g) {
    const int64_t head = unit.begin * in.group() + g;
    for (int64_t at = 0; at < queries; at += block) {
      const int64_t rows = std::min(block, queries - at), own = before + at;
      const int64_t from = in.first_seen(own + 1), seen = own + rows - from;
      at::Tensor s = scores.narrow(0, 0, rows * seen).view({rows, seen});
      at::Tensor o_rows = o.narrow(0, 0, rows);
      load<T>(in.q, head, first + at, rows, q, 0);
      at::mm_out(s, q.narrow(0, 0, rows), keys.narrow(0, from, seen).t());
      causal_softmax(s.data_ptr<float>(), rows, seen, in.mask(own, from), in.score_scale(),
                     lse.data_ptr<float>() + head * lse.stride(0) + first + at, in.sink(head));
      at::mm_out(o_rows, s, values.narrow(0, from, seen));
      store<T>(o, 0, out, head, first + at, rows);
    }
  }
}

// A document with one query, as in generation: one block whose rows are the heads of the group.
template <typename T>
void single_query_unit(const Inputs& in, const Unit& unit, const at::Tensor& out) {
  const int64_t row = in.offsets[unit.slot], group = in.group();
  const int64_t unseen = in.first_seen(in.keys.counts[unit.slot]);
  const int64_t first_key = in.keys.begins[unit.slot] + unseen;
  const int64_t n = in.keys.counts[unit.slot] - unseen;
  const at::Tensor keys = scratch(n, in.dq()), values = scratch(n, in.dv());
  at::Tensor q = scratch(group, in.dq()), o = scratch(group, in.dv()), s = scratch(group, n);
  load_keys<T>(in, unit.begin, first_key, n, keys);
  load<T>(in.v, unit.begin, first_key, n, values, 0);
  for (int64_t g = 0; g < group; ++g) {
    load<T>(in.q, unit.begin * group + g, row, 1, q.narrow(0, g, 1), 0);
  }
  at::mm_out(s, q, keys.t());
  for (int64_t g = 0; g < group; ++g) {
    float lse = 0;
    causal_softmax(s.data_ptr<float>() + g * n, 1, n, {.first_visible = n}, in.score_scale(), &lse,
                   in.sink(unit.begin * group + g));
  }
  at::mm_out(o, s, values);
  for (int64_t g = 0; g < group; ++g) {
    store<T>(o.narrow(0, g, 1), 0, out, unit.begin * group + g, row, 1);
  }
}

// Neighbouring runs [begin, end) whose keys begin at the same row.
struct KeyGroup {
  size_t begin = 0, end = 0;
  int64_t keys = 0;  // of the run with most
};

std::vector<KeyGroup> key_groups(const Inputs& in) {
  std::vector<KeyGroup> groups;
  for (size_t run = 0; run + 1 < in.offsets.size(); ++run) {
    const bool same = run > 0 && in.keys.begins[run] == in.keys.begins[run - 1];
    if (!same) groups.push_back({run, run, 0});
    groups.back().end = run + 1;
    groups.back().keys = std::max(groups.back().keys, in.keys.counts[run]);
  }
  return groups;
}

struct Gradients {
  at::Tensor q, k, v;   // shaped as the inputs
  at::Tensor k_shared;  // fp32 [kv_heads, T, ds]: summed over the heads afterwards, in order
};

// The unit is a group of runs and a kv head.
template <typename T>
void backward_unit(const Inputs& in, const KeyGroup& group, int64_t kv_head, const at::Tensor& out,
                   const at::Tensor& lse, const at::Tensor& d_out, const Gradients& grads) {
  const int64_t first_key = in.keys.begins[group.begin], n = group.keys;
  const int64_t block = kQueryBlock;
  const at::Tensor keys = scratch(n, in.dq()), values = scratch(n, in.dv());
  at::Tensor d_keys = at::zeros({n, in.dq()}, at::kFloat);
  at::Tensor d_values = at::zeros({n, in.dv()}, at::kFloat);
  const at::Tensor q = scratch(block, in.dq()), dq = scratch(block, in.dq());
  const at::Tensor o = scratch(block, in.dv()), d_o = scratch(block, in.dv());
  const at::Tensor p_buffer = at::empty({block * n}, at::kFloat),
                   dp_buffer = at::empty({block * n}, at::kFloat);
  std::vector<float> delta(block);
  load_keys<T>(in, kv_head, first_key, n, keys);
  load<T>(in.v, kv_head, first_key, n, values, 0);
  // Adds queries [row, row + rows) of a head; the first of them is at key `own`.
  const auto add_block = [&](int64_t head, int64_t row, int64_t rows, int64_t own) {
    const int64_t from = in.first_seen(own + 1), seen = own + rows - from;
    at::Tensor p = p_buffer.narrow(0, 0, rows * seen).view({rows, seen});
    at::Tensor dp = dp_buffer.narrow(0, 0, rows * seen).view({rows, seen});
    const at::Tensor q_rows = q.narrow(0, 0, rows), d_o_rows = d_o.narrow(0, 0, rows);
    at::Tensor dq_rows = dq.narrow(0, 0, rows);
    load<T>(in.q, head, row, rows, q, 0);
    load<T>(out, head, row, rows, o, 0);
    load<T>(d_out, head, row, rows, d_o, 0);
    at::mm_out(p, q_rows, keys.narrow(0, from, seen).t());
    causal_probabilities(p.data_ptr<float>(), rows, seen, in.mask(own, from), in.score_scale(),
                         lse.data_ptr<float>() + head * lse.stride(0) + row);
    row_dots(o.data_ptr<float>(), d_o.data_ptr<float>(), delta.data(), rows, in.dv());
    d_values.narrow(0, from, seen).addmm_(p.t(), d_o_rows);
    at::mm_out(dp, d_o_rows, values.narrow(0, from, seen).t());
    softmax_backward(p.data_ptr<float>(), dp.data_ptr<float>(), delta.data(), rows, seen,
                     in.score_scale());
    at::mm_out(dq_rows, dp, keys.narrow(0, from, seen));
    store<T>(dq, 0, grads.q, head, row, rows);
    d_keys.narrow(0, from, seen).addmm_(dp.t(), q_rows);
  };
  for (int64_t g = 0; g < in.group(); ++g) {
    for (size_t run = group.begin; run < group.end; ++run) {
      const int64_t first = in.offsets[run], queries = in.offsets[run + 1] - first;
      const int64_t before = in.keys.counts[run] - queries;
      for (int64_t at = 0; at < queries; at += block) {
        const int64_t rows = std::min(block, queries - at);
        add_block(kv_head * in.group() + g, first + at, rows, before + at);
      }
    }
  }
  store<T>(d_keys, 0, grads.k, kv_head, first_key, n);
  store<T>(d_values, 0, grads.v, kv_head, first_key, n);
  if (grads.k_shared.defined()) {
    const int64_t width = grads.k_shared.size(2);
    load_rows(
        d_keys.data_ptr<float>() + in.dk(), d_keys.stride(0),
        grads.k_shared.data_ptr<float>() + (kv_head * grads.k_shared.size(1) + first_key) * width,
        width, n, width);
  }
}

}  // namespace

Attended attention(const AttentionInputs& inputs, const AttentionRuns& runs, bool keep) {
  if (inputs.q.is_meta()) return shapes::attention(inputs, runs);
  const Inputs in(inputs, runs);
  const at::Tensor& q = in.q;
  const Attended result{at::empty({q.size(0), q.size(1), in.dv()}, q.options()),
                        at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat))};
  std::vector<Unit> units = units_of(in);
  dispatch_dtype(q.scalar_type(), [&](auto t) {
    using T = decltype(t);
    run_units(units, [&](const Unit& unit) {
      const bool single = in.offsets[unit.slot + 1] - in.offsets[unit.slot] == 1;
      if (single && !keep) {
        single_query_unit<T>(in, unit, result.out);
      } else {
        forward_unit<T>(in, unit, result.out, result.lse);
      }
    });
  });
  return result;
}

AttentionGradients attention_gradients(const AttentionInputs& inputs, const AttentionRuns& runs,
                                       const Attended& forward, const at::Tensor& d_out) {
  if (inputs.q.is_meta()) return shapes::attention_gradients(inputs, runs);
  const Inputs in(inputs, runs);
  // Keys that no query of this call attends to get no gradient from it.
  const bool all_seen = runs.same_rows && in.k.size(0) == in.q.size(0);
  const auto like = [&](const at::Tensor& x) {
    return all_seen ? at::empty(x.sizes(), x.options()) : at::zeros(x.sizes(), x.options());
  };
  Gradients grads{at::empty(in.q.sizes(), in.q.options()), like(in.k), like(in.v), {}};
  if (in.has_shared()) {
    grads.k_shared = at::zeros({in.kv_heads(), in.k_shared.size(0), in.k_shared.size(1)},
                               in.q.options().dtype(at::kFloat));
  }
  const std::vector<KeyGroup> groups = key_groups(in);
  std::vector<Unit> units;
  for (size_t g = 0; g < groups.size(); ++g) {
    const double keys = static_cast<double>(groups[g].keys);
    if (groups[g].keys == 0) continue;
    for (int64_t h = 0; h < in.kv_heads(); ++h) {
      units.push_back({static_cast<int64_t>(g), h, h + 1, keys * keys + 64 * keys});
    }
  }
  dispatch_dtype(in.q.scalar_type(), [&](auto t) {
    run_units(units, [&](const Unit& unit) {
      backward_unit<decltype(t)>(in, groups[unit.slot], unit.begin, forward.out, forward.lse, d_out,
                                 grads);
    });
  });
  at::Tensor d_shared;
  if (grads.k_shared.defined()) d_shared = grads.k_shared.sum(0).to(in.q.scalar_type());
  return {grads.q, grads.k, d_shared, grads.v};
}

}  // namespace sutor::ops::cpu
