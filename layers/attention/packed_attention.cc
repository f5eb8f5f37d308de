#include "layers/attention/packed_attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <limits>

#include "csrc/base/profile.h"
#include "csrc/ops/cpu/softmax_kernels.h"
#include "csrc/ops/cpu/torch_ops.h"

namespace sutor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr int64_t kQueryBlock = 128;  // rows of scores at a time

struct Inputs {
  at::Tensor q, k, k_shared, v;
  std::vector<int64_t> offsets;  // of the queries
  KeyRows keys;
  float scale;
  int64_t sliding_window;  // 0: none
  at::Tensor sinks;        // fp32 [heads]; none is an empty tensor

  // No shared part is a tensor of one axis: autograd takes no undefined inputs.
  bool has_shared() const { return k_shared.dim() == 2; }
  float sink(int64_t head) const {
    return sinks.numel() == 0 ? -std::numeric_limits<float>::infinity()
                              : sinks.data_ptr<float>()[head];
  }
  // The first key that a query with so many keys up to its own sees.
  int64_t first_seen(int64_t keys_before) const {
    return sliding_window == 0 ? 0 : std::max<int64_t>(0, keys_before - sliding_window);
  }
  // Of a block of scores over keys from `first_key` on, whose first query sees keys up to `own`.
  ops::CausalMask mask(int64_t own, int64_t first_key) const {
    ops::CausalMask mask{.first_visible = own - first_key};
    if (sliding_window > 0) mask.sliding_window = sliding_window;
    return mask;
  }
  int64_t heads() const { return q.size(1); }
  int64_t kv_heads() const { return k.size(1); }
  int64_t group() const { return heads() / kv_heads(); }
  int64_t dq() const { return q.size(2); }
  int64_t dk() const { return k.size(2); }
  int64_t dv() const { return v.size(2); }
};

// The usual case: a document's queries and keys are the same rows.
KeyRows same_rows(const std::vector<int64_t>& offsets) {
  KeyRows keys;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    keys.begins.push_back(offsets[d]);
    keys.counts.push_back(offsets[d + 1] - offsets[d]);
  }
  return keys;
}

// One unit of work: a run of queries (slot) and a kv head (begin).
std::vector<ops::Unit> units_of(const Inputs& in) {
  std::vector<ops::Unit> units;
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
  ops::load_rows(ops::data<T>(x) + begin * x.stride(0) + head * x.stride(1), x.stride(0),
                 to.data_ptr<float>() + column, to.stride(0), count, x.size(2));
}

template <typename T>
void store(const at::Tensor& from, int64_t column, const at::Tensor& x, int64_t head, int64_t begin,
           int64_t count) {
  ops::store_rows(from.data_ptr<float>() + column, from.stride(0),
                  ops::data<T>(x) + begin * x.stride(0) + head * x.stride(1), x.stride(0), count,
                  x.size(2));
}

template <typename T>
void load_keys(const Inputs& in, int64_t head, int64_t begin, int64_t count, const at::Tensor& to) {
  load<T>(in.k, head, begin, count, to, 0);
  if (in.has_shared()) {
    ops::load_rows(ops::data<T>(in.k_shared) + begin * in.k_shared.stride(0), in.k_shared.stride(0),
                   to.data_ptr<float>() + in.dk(), to.stride(0), count, in.k_shared.size(1));
  }
}

template <typename T>
void forward_unit(const Inputs& in, const ops::Unit& unit, const at::Tensor& out,
                  const at::Tensor& lse) {
  const int64_t first = in.offsets[unit.slot], queries = in.offsets[unit.slot + 1] - first;
  const int64_t first_key = in.keys.begins[unit.slot], n = in.keys.counts[unit.slot];
  const int64_t before = n - queries;  // keys that every query sees
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
      ops::causal_softmax(s.data_ptr<float>(), rows, seen, in.mask(own, from), in.scale,
                          lse.data_ptr<float>() + head * lse.stride(0) + first + at, in.sink(head));
      at::mm_out(o_rows, s, values.narrow(0, from, seen));
      store<T>(o, 0, out, head, first + at, rows);
    }
  }
}

// A document with one query, as in generation: the heads of the group are the rows of one block.
template <typename T>
void single_query_unit(const Inputs& in, const ops::Unit& unit, const at::Tensor& out) {
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
    ops::causal_softmax(s.data_ptr<float>() + g * n, 1, n, {.first_visible = n}, in.scale, &lse,
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
  int64_t keys = 0;  // the most that one of them has
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
  at::Tensor q, k, v;   // like the inputs
  at::Tensor k_shared;  // fp32 [kv_heads, T, ds]: summed over heads afterwards, in order
};

// A group of runs and a kv head.
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
  // Queries [row, row + rows) of a head, the first of which stands at key `own`.
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
    ops::causal_probabilities(p.data_ptr<float>(), rows, seen, in.mask(own, from), in.scale,
                              lse.data_ptr<float>() + head * lse.stride(0) + row);
    ops::row_dots(o.data_ptr<float>(), d_o.data_ptr<float>(), delta.data(), rows, in.dv());
    d_values.narrow(0, from, seen).addmm_(p.t(), d_o_rows);
    at::mm_out(dp, d_o_rows, values.narrow(0, from, seen).t());
    ops::softmax_backward(p.data_ptr<float>(), dp.data_ptr<float>(), delta.data(), rows, seen,
                          in.scale);
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
    ops::load_rows(
        d_keys.data_ptr<float>() + in.dk(), d_keys.stride(0),
        grads.k_shared.data_ptr<float>() + (kv_head * grads.k_shared.size(1) + first_key) * width,
        width, n, width);
  }
}

// [heads]: a sink has its weight in every row, and no value.
at::Tensor sink_gradient(const Inputs& in, const at::Tensor& out, const at::Tensor& lse,
                         const at::Tensor& d_out) {
  const at::Tensor delta = (out.to(at::kFloat) * d_out.to(at::kFloat)).sum(-1);  // [T, heads]
  const at::Tensor weights = at::exp(in.sinks.unsqueeze(1) - lse);               // [heads, T]
  return -(weights * delta.t()).sum(1);
}

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& k_shared, const at::Tensor& v,
                            const at::Tensor& sinks, const std::vector<int64_t>& offsets,
                            const KeyRows& keys, double scale, int64_t sliding_window) {
    const ProfileScope scope("attention core");
    const Inputs in{q,    k, k_shared, v, offsets, keys, static_cast<float>(scale), sliding_window,
                    sinks};
    at::Tensor out = at::empty({q.size(0), q.size(1), v.size(2)}, q.options());
    at::Tensor lse = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
    std::vector<ops::Unit> units = units_of(in);
    ops::dispatch_dtype(q.scalar_type(), [&](auto t) {
      ops::run_units(units,
                     [&](const ops::Unit& unit) { forward_unit<decltype(t)>(in, unit, out, lse); });
    });
    ctx->save_for_backward({q, k, k_shared, v, out, lse, sinks});
    ctx->saved_data["offsets"] = in.offsets;
    ctx->saved_data["key_begins"] = keys.begins;
    ctx->saved_data["key_counts"] = keys.counts;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["sliding_window"] = sliding_window;
    return out;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grad_outputs) {
    const ProfileScope scope("attention core, backward");
    const auto saved = ctx->get_saved_variables();
    const Inputs in{
        saved[0],
        saved[1],
        saved[2],
        saved[3],
        ctx->saved_data["offsets"].toIntVector(),
        {ctx->saved_data["key_begins"].toIntVector(), ctx->saved_data["key_counts"].toIntVector()},
        static_cast<float>(ctx->saved_data["scale"].toDouble()),
        ctx->saved_data["sliding_window"].toInt(),
        saved[6]};
    const at::Tensor d_out = grad_outputs[0].contiguous();
    // Keys that no query here sees have no gradient from here.
    const bool all_seen = in.k.size(0) == in.q.size(0);
    const auto like = [&](const at::Tensor& x) {
      return all_seen ? at::empty(x.sizes(), x.options()) : at::zeros(x.sizes(), x.options());
    };
    Gradients grads{at::empty(in.q.sizes(), in.q.options()), like(in.k), like(in.v), {}};
    if (in.has_shared()) {
      grads.k_shared =
          at::zeros({in.kv_heads(), in.k_shared.size(0), in.k_shared.size(1)}, at::kFloat);
    }
    const std::vector<KeyGroup> groups = key_groups(in);
    std::vector<ops::Unit> units;
    for (size_t g = 0; g < groups.size(); ++g) {
      const double keys = static_cast<double>(groups[g].keys);
      if (groups[g].keys == 0) continue;
      for (int64_t h = 0; h < in.kv_heads(); ++h) {
        units.push_back({static_cast<int64_t>(g), h, h + 1, keys * keys + 64 * keys});
      }
    }
    ops::dispatch_dtype(in.q.scalar_type(), [&](auto t) {
      ops::run_units(units, [&](const ops::Unit& unit) {
        backward_unit<decltype(t)>(in, groups[unit.slot], unit.begin, saved[4], saved[5], d_out,
                                   grads);
      });
    });
    at::Tensor d_shared;
    if (grads.k_shared.defined()) d_shared = grads.k_shared.sum(0).to(in.q.scalar_type());
    at::Tensor d_sinks;
    if (ctx->needs_input_grad(4)) d_sinks = sink_gradient(in, saved[4], saved[5], d_out);
    return {grads.q,      grads.k,      d_shared,     grads.v,     d_sinks,
            at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

// Autograd takes no undefined inputs.
at::Tensor or_empty(const at::Tensor& x, const at::Tensor& q) {
  return x.defined() ? x : at::empty({0}, q.options());
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& k_shared,
                            const at::Tensor& v, const std::vector<int64_t>& doc_offsets,
                            const AttentionOptions& options) {
  return packed_attention_over(q, k, k_shared, v, doc_offsets, same_rows(doc_offsets), options);
}

at::Tensor packed_attention_over(const at::Tensor& q, const at::Tensor& k,
                                 const at::Tensor& k_shared, const at::Tensor& v,
                                 const std::vector<int64_t>& offsets, const KeyRows& keys,
                                 const AttentionOptions& options) {
  const at::Tensor shared = or_empty(k_shared, q);
  const at::Tensor sinks = or_empty(options.sinks, q).to(at::kFloat);
  if (at::GradMode::is_enabled()) {
    return AttentionFunction::apply(q, k, shared, v, sinks, offsets, keys, options.scale,
                                    options.sliding_window);
  }
  const ProfileScope scope("attention core");
  const Inputs in{
      q,    k, shared, v, offsets, keys, static_cast<float>(options.scale), options.sliding_window,
      sinks};
  at::Tensor out = at::empty({q.size(0), q.size(1), v.size(2)}, q.options());
  const at::Tensor lse = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
  std::vector<ops::Unit> units = units_of(in);
  ops::dispatch_dtype(q.scalar_type(), [&](auto t) {
    using T = decltype(t);
    ops::run_units(units, [&](const ops::Unit& unit) {
      const bool single = in.offsets[unit.slot + 1] - in.offsets[unit.slot] == 1;
      single ? single_query_unit<T>(in, unit, out) : forward_unit<T>(in, unit, out, lse);
    });
  });
  return out;
}

}  // namespace sutor
