// The rate of every operator at the shapes of DeepSeek-V2-Lite, beside what the device gives at
// most: torch's mm of large matrices and a copy of memory. One line an operator:
//   build-cuda/gpu_rates [--device cpu|cuda] [--scale N]
// 16,384 tokens in four documents; --scale divides tokens and sizes, so that a CPU ends in seconds.
// FLOPs are those of the products that the operator has to do, a causal half of the scores
// included; bytes are those of its tensors, each once for every time that it has to pass.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/log.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <torch/cuda.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <functional>
#include <string_view>

#include "csrc/ops/adamw_bf16.h"
#include "csrc/ops/attention.h"
#include "csrc/ops/cross_entropy.h"
#include "csrc/ops/device/gpu.h"
#include "csrc/ops/exact_sum.h"
#include "csrc/ops/expert_mlp.h"
#include "csrc/ops/rms_norm.h"
#include "csrc/ops/rotary.h"
#include "csrc/ops/row_order.h"
#include "csrc/ops/sum_rows.h"
#include "csrc/ops/swiglu.h"

namespace sutor::ops {
namespace {

// Of the model, and of what is measured of it.
struct Shapes {
  explicit Shapes(int64_t scale) : scale(scale) {}

  int64_t divided(int64_t size, int64_t multiple) const {
    return std::max(size / scale / multiple, int64_t{1}) * multiple;
  }

  int64_t scale;
  int64_t documents = 4, length = divided(4096, 16);
  int64_t tokens = documents * length;
  int64_t hidden = divided(2048, 32), width = divided(1408, 32), dense = divided(10944, 32);
  int64_t experts = 64, top_k = 6, trained = 14;  // the share of 0.22 that ESFT chose for one task
  int64_t heads = 16, nope = 128, rope = 64, value = 128;
  int64_t vocabulary = divided(102400, 32), head_rows = divided(4096, 16);
  int64_t square = divided(8192, 256);            // of the matrices that tell the ceiling
  int64_t copied = divided(int64_t{1} << 29, 1);  // elements of bf16
};

class Rates {
 public:
  Rates(at::Device device, const Shapes& shapes) : s(shapes), device_(device) {
    fmt::print("{:<34} {:>10} {:>10} {:<8} {:>6}\n", "op", "ms", "rate", "", "share");
  }

  at::Tensor normal(at::IntArrayRef sizes, at::ScalarType dtype = at::kBFloat16) const {
    return at::empty(sizes, options(dtype)).normal_(0, 0.02);
  }
  at::TensorOptions options(at::ScalarType dtype) const {
    return at::TensorOptions().dtype(dtype).device(device_);
  }
  at::Device device() const { return device_; }

  // A line with TFLOP/s as a share of the GEMM ceiling, or with GB/s as a share of the copy's. The
  // first of each is the ceiling.
  void flops(const std::string& op, double count, const std::function<void()>& work) {
    line(op, count / 1e12, "TFLOP/s", &gemm_ceiling_, work);
  }
  void bytes(const std::string& op, double count, const std::function<void()>& work) {
    line(op, count / 1e9, "GB/s", &copy_ceiling_, work);
  }
  // What a group of lines shares may throw, too.
  void group(const char* name, const std::function<void()>& lines) {
    try {
      lines();
    } catch (const std::exception& error) {
      failed(name, error);
    }
  }

  bool any_failed() const { return any_failed_; }

  const Shapes& s;

 private:
  void line(const std::string& op, double amount, const char* unit, double* ceiling,
            const std::function<void()>& work) {
    try {
      const double seconds = seconds_of(work), rate = amount / seconds;
      if (*ceiling == 0) *ceiling = rate;
      fmt::print("{:<34} {:>10.3f} {:>10.4g} {:<8} {:>5.1f}%\n", op, seconds * 1e3, rate, unit,
                 100 * rate / *ceiling);
    } catch (const std::exception& error) {
      failed(op, error);
    }
    std::fflush(stdout);
  }

  void failed(std::string_view op, const std::exception& error) {
    const std::string_view text = error.what();
    fmt::print("{:<34} failed: {}\n", op, text.substr(0, text.find('\n')));
    any_failed_ = true;
  }

  void synchronize() const {
    if constexpr (kHasCuda) {
      if (device_.is_cuda()) torch::cuda::synchronize();
    }
  }

  // The fastest of five batches; the device is waited for at the ends of a batch alone.
  double seconds_of(const std::function<void()>& work) const {
    const auto batch = [&](int64_t calls) {
      synchronize();
      const auto begin = std::chrono::steady_clock::now();
      for (int64_t call = 0; call < calls; ++call) work();
      synchronize();
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
      return passed.count() / static_cast<double>(calls);
    };
    batch(1);  // plans, memory, code that is loaded at first use
    const double once = batch(1);
    const auto calls = std::clamp(static_cast<int64_t>(0.05 / once), int64_t{1}, int64_t{100});
    double best = once;
    for (int repeat = 0; repeat < 5; ++repeat) best = std::min(best, batch(calls));
    return best;
  }

  at::Device device_;
  double gemm_ceiling_ = 0, copy_ceiling_ = 0;
  bool any_failed_ = false;
};

double size_of(std::initializer_list<const at::Tensor*> tensors) {
  double bytes = 0;
  for (const at::Tensor* tensor : tensors) bytes += static_cast<double>(tensor->nbytes());
  return bytes;
}

void ceilings(Rates& rates) {
  const int64_t n = rates.s.square;
  {
    const at::Tensor a = rates.normal({n, n}), b = rates.normal({n, n});
    at::Tensor c = at::empty_like(a);
    const double count = 2.0 * static_cast<double>(n) * static_cast<double>(n * n);
    rates.flops(fmt::format("ceiling: mm, bf16, {} cubed", n), count, [&] { at::mm_out(c, a, b); });
  }
  const at::Tensor from = rates.normal({rates.s.copied}), to = at::empty_like(from);
  rates.bytes(fmt::format("ceiling: copy of {:.0f} MiB", size_of({&from}) / (1 << 20)),
              size_of({&from, &to}), [&] { to.copy_(from); });
}

void norms(Rates& rates) {
  const at::Tensor x = rates.normal({rates.s.tokens, rates.s.hidden}), dy = at::empty_like(x);
  const at::Tensor weight = rates.normal({rates.s.hidden});
  dy.copy_(x);
  rates.bytes("rms_norm", 2 * size_of({&x}), [&] { rms_norm(x, weight, 1e-6, true); });
  const at::Tensor rstd = rms_norm(x, weight, 1e-6, true).rstd;
  rates.bytes("rms_norm backward", 3 * size_of({&x}),
              [&] { rms_norm_input_gradient(dy, x, weight, rstd); });
}

void rotary(Rates& rates) {
  const Shapes& s = rates.s;
  const at::Tensor q = rates.normal({s.tokens, s.heads, s.nope + s.rope});
  const at::Tensor cos = rates.normal({s.tokens, s.rope / 2}, at::kFloat), sin = cos.clone();
  rates.bytes("rotary", 2 * size_of({&q}), [&] { rotated(q, cos, sin, s.nope, true, false); });
  rates.bytes("rotary backward", 2 * size_of({&q}),
              [&] { rotated(q, cos, sin, s.nope, true, true); });
}

void dense_activation(Rates& rates) {
  const at::Tensor gate = rates.normal({rates.s.tokens, rates.s.dense});
  const at::Tensor up = gate.clone(), d_out = gate.clone();
  rates.bytes("swiglu", 3 * size_of({&gate}), [&] { swiglu(gate, up); });
  rates.bytes("swiglu backward", 5 * size_of({&gate}), [&] { swiglu_gradients(gate, up, d_out); });
}

// The choices of all tokens [T, K]: at random, or more of the first experts, as 1 / (1 + e).
at::Tensor routing(const Rates& rates, bool is_skewed) {
  const Shapes& s = rates.s;
  at::manual_seed(1);
  at::Tensor scores = -at::log(-at::log(at::rand({s.tokens, s.experts}).clamp(1e-6, 1 - 1e-6)));
  if (is_skewed) scores -= at::log(at::arange(1, s.experts + 1));
  return std::get<1>(scores.topk(s.top_k, 1)).contiguous().to(rates.device());
}

ExpertTensors expert_tensors(const Rates& rates, int64_t count, at::ScalarType dtype) {
  const int64_t h = rates.s.hidden, w = rates.s.width;
  return {.gate_up = rates.normal({count, 2 * w, h}, dtype),
          .down = rates.normal({count, h, w}, dtype)};
}

void routed(Rates& rates, bool is_skewed) {
  const Shapes& s = rates.s;
  const std::string suffix = is_skewed ? ", skewed" : ", level";
  const at::Tensor choices = routing(rates, is_skewed);
  const at::Tensor slots = at::arange(s.experts, rates.options(at::kLong));
  rates.bytes("order_by_slot" + suffix, 3 * size_of({&choices}),
              [&] { order_by_slot(choices, slots, s.experts); });
  const RowOrder order = order_by_slot(choices, slots, s.experts);
  const int64_t num_rows = s.tokens * s.top_k;
  {
    const at::Tensor rows = rates.normal({num_rows, s.hidden});
    rates.bytes("sum_rows" + suffix,
                size_of({&rows, &order.position}) * (1 + 1.0 / static_cast<double>(s.top_k)),
                [&] { sum_rows(rows, order.position, s.tokens); });
  }
  const ExpertRows in = {.source = rates.normal({s.tokens, s.hidden}),
                         .row_index_R = at::floor_divide(order.choice_R, s.top_k),
                         .weights_R = at::ones({num_rows}, rates.options(at::kFloat)),
                         .offsets = order.offsets};
  const ExpertWeights weights = {
      .num_local = s.experts,
      .num_trained = s.trained,
      .hidden = s.hidden,
      .width = s.width,
      .trained = expert_tensors(rates, s.trained, at::kBFloat16),
      .frozen = expert_tensors(rates, s.experts - s.trained, at::kBFloat16),
      .grads = expert_tensors(rates, s.trained, at::kFloat)};
  const GatedActivation activation;
  const double of_row = 6.0 * static_cast<double>(s.hidden * s.width);
  const int64_t trained_rows = order.offsets[s.trained].item<int64_t>();
  const int64_t largest = order.offsets.diff().max().item<int64_t>();
  rates.flops("expert_mlp" + suffix, of_row * static_cast<double>(num_rows), [&] {
    ExpertsSaved saved;
    expert_mlp(in, weights, activation, &saved);
  });
  ExpertsSaved saved;
  expert_mlp(in, weights, activation, &saved);
  rates.flops("expert_mlp backward" + suffix, of_row * static_cast<double>(num_rows + trained_rows),
              [&] {
                expert_mlp_backward(in, weights, activation, saved, in.source, /*want_rows=*/true,
                                    /*want_weights=*/true);
              });
  fmt::print("  {} rows, {} of them of the {} trained experts; the largest expert has {}\n",
             num_rows, trained_rows, s.trained, largest);
}

void attentions(Rates& rates) {
  const Shapes& s = rates.s;
  const AttentionInputs in = {.q = rates.normal({s.tokens, s.heads, s.nope + s.rope}),
                              .k = rates.normal({s.tokens, s.heads, s.nope}),
                              .k_shared = rates.normal({s.tokens, s.rope}),
                              .v = rates.normal({s.tokens, s.heads, s.value}),
                              .scale = 0.07};
  std::vector<int64_t> offsets;
  for (int64_t d = 0; d <= s.documents; ++d) offsets.push_back(d * s.length);
  const AttentionRuns runs = runs_of_documents(offsets, rates.device());
  const double pairs = static_cast<double>(s.heads * s.documents) *
                       static_cast<double>(s.length * (s.length + 1)) / 2;
  const auto dq = static_cast<double>(s.nope + s.rope), dv = static_cast<double>(s.value);
  rates.flops("attention", pairs * 2 * (dq + dv), [&] { attention(in, runs, /*keep=*/true); });
  const Attended forward = attention(in, runs, /*keep=*/true);
  const at::Tensor d_out = rates.normal(forward.out.sizes());
  rates.flops("attention backward", pairs * 2 * (3 * dq + 2 * dv),
              [&] { attention_gradients(in, runs, forward, d_out); });
}

void head(Rates& rates) {
  const Shapes& s = rates.s;
  const at::Tensor h = rates.normal({s.head_rows, s.hidden});
  const at::Tensor weight = rates.normal({s.vocabulary, s.hidden});
  const double products = 2.0 * static_cast<double>(s.head_rows * s.hidden * s.vocabulary);
  rates.flops("head_logits", products, [&] { head_logits(h, weight); });
  {
    const at::Tensor d_logits = rates.normal({s.head_rows, s.vocabulary});
    rates.flops("head_input_gradient", products, [&] { head_input_gradient(d_logits, weight); });
  }
  const at::Tensor logits = head_logits(h, weight);
  const at::Tensor target = at::randint(s.vocabulary, {s.head_rows}, rates.options(at::kLong));
  const at::Tensor loss = at::empty({s.head_rows}, rates.options(at::kFloat));
  const at::Tensor correct = at::empty({s.head_rows}, rates.options(at::kByte));
  rates.bytes("cross_entropy", 2 * size_of({&logits}),
              [&] { cross_entropy_(logits, target, 1e-4, loss, correct); });
}

void optimizer(Rates& rates) {
  const int64_t n = rates.s.trained * 3 * rates.s.hidden * rates.s.width;
  const at::Tensor weight = rates.normal({n}), exp_avg = at::zeros_like(weight);
  const at::Tensor exp_avg_sq = at::zeros_like(weight), grad = rates.normal({n}, at::kFloat);
  const AdamWBf16Run run = {
      .step = adamw_bf16_at({.lr = 1e-5, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8}, {}, true),
      .count = n,
      .columns = n,
      .row_elements = n};
  rates.bytes("adamw_bf16", size_of({&grad}) + 2 * size_of({&weight, &exp_avg, &exp_avg_sq}), [&] {
    adamw_bf16_({&run, 1}, weight, exp_avg, exp_avg_sq, grad);
  });
  rates.bytes("sum_of_squares", size_of({&grad}), [&] { sum_of_squares(grad); });
}

int measure(at::Device device, int64_t scale) {
  const Shapes shapes(scale);
  fmt::print("{} tokens in {} documents, hidden {}, experts {} x {}, vocabulary {}, on {}\n",
             shapes.tokens, shapes.documents, shapes.hidden, shapes.experts, shapes.width,
             shapes.vocabulary, device.str());
  const at::NoGradGuard no_grad;
  Rates rates(device, shapes);
  rates.group("ceilings", [&] { ceilings(rates); });
  rates.group("rms_norm", [&] { norms(rates); });
  rates.group("rotary", [&] { rotary(rates); });
  rates.group("swiglu", [&] { dense_activation(rates); });
  rates.group("routed, level", [&] { routed(rates, false); });
  rates.group("routed, skewed", [&] { routed(rates, true); });
  rates.group("attention", [&] { attentions(rates); });
  rates.group("head", [&] { head(rates); });
  rates.group("optimizer", [&] { optimizer(rates); });
  return rates.any_failed() ? 1 : 0;
}

int usage() {
  fmt::print(stderr, "usage: gpu_rates [--device cpu|cuda] [--scale N]\n");
  return 2;
}

}  // namespace
}  // namespace sutor::ops

int main(int argc, char** argv) {
  std::string_view device = sutor::ops::kHasCuda ? "cuda" : "cpu";
  int64_t scale = 1;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view key = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (key == "--device" && (value == "cpu" || value == "cuda")) {
      device = value;
    } else if (key == "--scale") {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), scale);
      if (error != std::errc() || end != value.data() + value.size() || scale < 1) {
        return sutor::ops::usage();
      }
    } else {
      return sutor::ops::usage();
    }
  }
  if (device == "cpu") return sutor::ops::measure(at::kCPU, scale);
  std::string why;
  if (sutor::ops::visible_gpus(&why).empty()) {
    fmt::print(stderr, "gpu_rates: no GPU: {}\n", why);
    return 2;
  }
  sutor::ops::use_gpu(0);
  return sutor::ops::measure({at::kCUDA, 0}, scale);
}
