#include "csrc/ops/cpu/gated_kernels.h"

#include <algorithm>

#include "csrc/ops/cpu/kernels/kernel_table.h"
#include "csrc/ops/cpu/kernels/row_math.h"

namespace sutor::ops::SUTOR_KERNEL_LEVEL {
namespace {

struct Swiglu {
  float value(float g, float u) const { return g * sigmoid(g) * u; }
  void derivatives(float g, float u, float& dg, float& du) const {
    const float s = sigmoid(g);
    dg = u * s * (1.0f + g * (1.0f - s));
    du = g * s;
  }
};

struct ClampedGate {
  float alpha, limit, offset;
  float value(float gate, float up) const {
    const float g = std::min(gate, limit), u = std::min(std::max(up, -limit), limit);
    return (u + offset) * g * sigmoid(alpha * g);
  }
  void derivatives(float gate, float up, float& dg, float& du) const {
    const float g = std::min(gate, limit), u = std::min(std::max(up, -limit), limit);
    const float s = sigmoid(alpha * g);
    dg = gate <= limit ? (u + offset) * s * (1.0f + alpha * g * (1.0f - s)) : 0.0f;
    du = up >= -limit && up <= limit ? g * s : 0.0f;
  }
};

template <typename Use>
void with_activation(const GatedActivation& act, const Use& use) {
  if (act.is_swiglu()) {
    use(Swiglu{});
  } else {
    use(ClampedGate{act.alpha, act.limit, act.up_offset});
  }
}

}  // namespace

template <typename T>
void activation_forward(const GatedActivation& act, const T* gate, const T* up, int64_t stride,
                        const float* weight, T* out, int64_t rows, int64_t width) {
  with_activation(act, [=](auto f) {
    for (int64_t r = 0; r < rows; ++r) {
      const float w = weight ? weight[r] : 1.0f;
      const T *g = gate + r * stride, *u = up + r * stride;
      T* to = out + r * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) put(to[i], w * f.value(get(g[i]), get(u[i])));
    }
  });
}

template <typename T>
void activation_backward(const GatedActivation& act, const T* gate, const T* up, int64_t stride,
                         const float* weight, const T* d_out, T* d_gate, T* d_up, T* out,
                         float* d_weight, int64_t rows, int64_t width) {
  with_activation(act, [=](auto f) {
    for (int64_t r = 0; r < rows; ++r) {
      const float w = weight ? weight[r] : 1.0f;
      const T *g = gate + r * stride, *u = up + r * stride, *d = d_out + r * width;
      if (d_weight) {
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < width; ++i) dot += get(d[i]) * f.value(get(g[i]), get(u[i]));
        d_weight[r] = dot;
      }
      if (out) {
        T* to = out + r * width;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) put(to[i], w * f.value(get(g[i]), get(u[i])));
      }
      if (d_gate) {
        T *to_gate = d_gate + r * stride, *to_up = d_up + r * stride;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
          float dg, du;
          f.derivatives(get(g[i]), get(u[i]), dg, du);
          const float from = w * get(d[i]);
          put(to_gate[i], from * dg);
          put(to_up[i], from * du);
        }
      }
    }
  });
}

namespace {

template <typename T>
void fill(ElementKernels<T>& table) {
  table.activation_forward = activation_forward<T>;
  table.activation_backward = activation_backward<T>;
}

}  // namespace

void add_activation_kernels(KernelTable& table) {
  fill(table.of_float);
  fill(table.of_bfloat);
}

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
