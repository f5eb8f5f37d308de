// The products of routed experts: csrc/ops/cpu/few_rows_gemm.h beside torch's mm, one thread, with
// weights that come from memory. Run: build/few_rows_gemm_bench; the ratio of two lines of one
// shape counts.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>

#include "csrc/ops/cpu/few_rows_gemm.h"

namespace sutor {
namespace {

// Weights of a layer of 64 experts (fewer where they are wide), visited in turn.
struct Layer {
  Layer(int64_t rows, int64_t hidden, int64_t width, at::ScalarType dtype)
      : experts((int64_t{64} << 20) / (hidden * width * 4) + 1),
        weights(at::randn({experts, width, hidden}).to(dtype)),
        x(at::randn({rows, hidden}).to(dtype)),
        y(at::empty({rows, width}, x.options())) {}
  int64_t experts;
  at::Tensor weights, x, y;
};

template <typename Product>
void run(benchmark::State& state, Product&& product) {
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  Layer layer(state.range(0), state.range(1), state.range(2),
              state.range(3) ? at::kBFloat16 : at::kFloat);
  int64_t expert = 0;
  for (auto _ : state) {
    product(layer, layer.weights[expert]);
    expert = (expert + 1) % layer.experts;
  }
  const double flops = 2.0 * static_cast<double>(layer.x.numel()) * state.range(2);
  state.counters["flops"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

void torch_mm_transposed(benchmark::State& state) {
  run(state, [](Layer& layer, const at::Tensor& w) { at::mm_out(layer.y, layer.x, w.t()); });
}
void few_rows_transposed(benchmark::State& state) {
  run(state,
      [](Layer& layer, const at::Tensor& w) { ops::few_rows_mm_transposed(layer.x, w, layer.y); });
}
void torch_mm(benchmark::State& state) {
  run(state, [](Layer& layer, const at::Tensor& w) { at::mm_out(layer.x, layer.y, w); });
}
void few_rows(benchmark::State& state) {
  run(state, [](Layer& layer, const at::Tensor& w) { ops::few_rows_mm(layer.y, w, layer.x); });
}

// rows, hidden, width, bf16
void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "hidden", "width", "bf16"});
  for (const int64_t bf16 : {0, 1}) {
    for (const auto& [hidden, width] : {std::pair<int64_t, int64_t>{512, 512}, {2048, 2816}}) {
      for (const int64_t rows : {8, 48, 384}) bench->Args({rows, hidden, width, bf16});
    }
  }
}
BENCHMARK(torch_mm_transposed)->Apply(shapes);
BENCHMARK(few_rows_transposed)->Apply(shapes);
BENCHMARK(torch_mm)->Apply(shapes);
BENCHMARK(few_rows)->Apply(shapes);

}  // namespace
}  // namespace sutor

BENCHMARK_MAIN();
