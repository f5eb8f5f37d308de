#include "csrc/ops/row_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace sutor::ops {
namespace {

inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline float get(float x) { return x; }
inline float get(BFloat x) { return bits_to_float(static_cast<uint32_t>(x.bits) << 16); }

inline void put(float& to, float x) { to = x; }
inline void put(BFloat& to, float x) {  // round to nearest even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to.bits = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40 : rounded);
}

template <typename T>
inline float rounded(float x) {
  T stored;
  put(stored, x);
  return get(stored);
}

// exp(x) to about 1 ulp, without branches, so that loops over it vectorise: 2^n * p(r).
inline float fast_exp(float x) {
  const float clamped = std::min(std::max(x, -87.3f), 88.7f);
  const float n = std::nearbyintf(clamped * 1.44269504088896341f);
  float r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // 2^n in two factors: n reaches 128, whose power alone is no float.
  const int half = static_cast<int>(n) / 2;
  const int rest = static_cast<int>(n) - half;
  const float a = bits_to_float(static_cast<uint32_t>(half + 127) << 23);
  const float b = bits_to_float(static_cast<uint32_t>(rest + 127) << 23);
  const float value = p * a * b;
  return x < -87.3f ? 0.0f : (x != x ? x : value);
}

// Sixteen words, and a square of them that transposes itself: in each of four rounds neighbours at
// the distance 1, 2, 4, 8 exchange halves.
constexpr int64_t kLanes = 16;
typedef float Vector __attribute__((vector_size(64), aligned(4)));
typedef int32_t Lanes __attribute__((vector_size(64)));

template <int kDistance>
inline void exchange(Vector* rows) {
  Lanes low, high;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool first = (lane & kDistance) == 0;
    low[lane] = first ? lane : kLanes + lane - kDistance;
    high[lane] = first ? lane + kDistance : kLanes + lane;
  }
  for (int r = 0; r < kLanes; ++r) {
    if (r & kDistance) continue;
    const Vector a = rows[r], b = rows[r + kDistance];
    rows[r] = __builtin_shuffle(a, b, low);
    rows[r + kDistance] = __builtin_shuffle(a, b, high);
  }
}

inline void transpose_square(Vector* rows) {
  exchange<1>(rows);
  exchange<2>(rows);
  exchange<4>(rows);
  exchange<8>(rows);
}

inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

}  // namespace

template <typename T>
void rms_norm_forward(const T* x, const T* w, T* y, float* rstd, int64_t rows, int64_t cols,
                      float eps, bool round_before_weight) {
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < cols; ++c) sum += get(x[c]) * get(x[c]);
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(cols) + eps);
    rstd[r] = scale;
    if (round_before_weight) {
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) put(y[c], get(w[c]) * rounded<T>(get(x[c]) * scale));
    } else {
#pragma omp simd
      for (int64_t c = 0; c < cols; ++c) put(y[c], get(w[c]) * (get(x[c]) * scale));
    }
  }
}

template <typename T>
void rms_norm_backward(const T* dy, const T* x, const T* w, const float* rstd, T* dx, int64_t rows,
                       int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, x += cols, dy += cols, dx += cols) {
    const float scale = rstd[r];
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t c = 0; c < cols; ++c) dot += get(dy[c]) * get(w[c]) * get(x[c]);
    const float mean = dot * scale * scale / static_cast<float>(cols);
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) {
      put(dx[c], scale * (get(dy[c]) * get(w[c]) - get(x[c]) * mean));
    }
  }
}

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

template <typename T>
void sum_rows(const T* rows, const int64_t* position, T* y, int64_t tokens, int64_t k,
              int64_t cols) {
  constexpr int64_t kBlock = 256;
  float sum[kBlock];
  for (int64_t t = 0; t < tokens; ++t, position += k, y += cols) {
    for (int64_t begin = 0; begin < cols; begin += kBlock) {
      const int64_t n = std::min(kBlock, cols - begin);
      std::fill(sum, sum + n, 0.0f);
      for (int64_t j = 0; j < k; ++j) {
        const T* row = rows + position[j] * cols + begin;
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) sum[c] += get(row[c]);
      }
#pragma omp simd
      for (int64_t c = 0; c < n; ++c) put(y[begin + c], sum[c]);
    }
  }
}

template <typename T>
void gather_rows(const T* from, const int64_t* index, T* to, int64_t count, int64_t cols) {
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(to + i * cols, from + index[i] * cols, static_cast<size_t>(cols) * sizeof(T));
  }
}

template <typename T>
void load_rows(const T* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows,
               int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) to[c] = get(from[c]);
  }
}

template <typename T>
void store_rows(const float* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
                int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) put(to[c], from[c]);
  }
}

void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t cols, float* to,
               int64_t to_stride) {
  for (int64_t r = 0; r < to_stride; r += kLanes) {
    const int64_t height = std::min(kLanes, rows - r), room = std::min(kLanes, to_stride - r);
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t width = std::min(kLanes, cols - c);
      Vector square[kLanes] = {};
      for (int64_t i = 0; i < height; ++i) {
        const float* row = from + (r + i) * from_stride + c;
        if (width == kLanes) {
          std::memcpy(&square[i], row, sizeof(Vector));
        } else {
          std::memcpy(&square[i], row, static_cast<size_t>(width) * 4);
        }
      }
      transpose_square(square);
      for (int64_t i = 0; i < width; ++i) {
        float* row = to + (c + i) * to_stride + r;
        if (room == kLanes) {
          std::memcpy(row, &square[i], sizeof(Vector));
        } else {
          std::memcpy(row, &square[i], static_cast<size_t>(room) * 4);
        }
      }
    }
  }
}

template <typename T>
void transpose_back(const float* from, int64_t from_stride, int64_t cols, int64_t rows, T* to,
                    int64_t to_stride) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    const int64_t height = std::min(kLanes, rows - r);
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t width = std::min(kLanes, cols - c);
      Vector square[kLanes] = {};
      for (int64_t i = 0; i < width; ++i) {
        const float* row = from + (c + i) * from_stride + r;
        if (from_stride - r >= kLanes) {
          std::memcpy(&square[i], row, sizeof(Vector));
        } else {
          std::memcpy(&square[i], row, static_cast<size_t>(height) * 4);
        }
      }
      transpose_square(square);
      for (int64_t i = 0; i < height; ++i) {
        T* row = to + (r + i) * to_stride + c;
        if (width == kLanes) {
#pragma omp simd
          for (int64_t j = 0; j < kLanes; ++j) put(row[j], square[i][j]);
        } else {
          for (int64_t j = 0; j < width; ++j) put(row[j], square[i][j]);
        }
      }
    }
  }
}

void interleave_pairs(const BFloat* from, int64_t from_stride, int64_t rows, int64_t cols,
                      uint32_t* to) {
  for (int64_t r = 0; r + 1 < rows; r += 2, to += cols) {
    const uint16_t* first = &from[r * from_stride].bits;
    const uint16_t* second = first + from_stride;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) {
      to[c] = static_cast<uint32_t>(first[c]) | static_cast<uint32_t>(second[c]) << 16;
    }
  }
}

namespace {

struct Seen {
  int64_t begin, end;
};

Seen seen_by(int64_t row, int64_t cols, const CausalMask& mask) {
  const int64_t end = std::min(cols, mask.first_visible + row + 1);
  return {mask.window < end ? end - mask.window : 0, end};
}

}  // namespace

void causal_softmax(float* s, int64_t rows, int64_t cols, const CausalMask& mask, float scale,
                    float* lse, float sink) {
  for (int64_t r = 0; r < rows; ++r, s += cols) {
    const auto [begin, end] = seen_by(r, cols, mask);
    float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
    for (int64_t c = begin; c < end; ++c) top = std::max(top, s[c]);
    top = std::max(top * scale, sink);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = begin; c < end; ++c) {
      s[c] = fast_exp(scale * s[c] - top);
      sum += s[c];
    }
    sum += fast_exp(sink - top);
    const float inverse = 1.0f / sum;
#pragma omp simd
    for (int64_t c = begin; c < end; ++c) s[c] *= inverse;
    std::fill(s, s + begin, 0.0f);
    std::fill(s + end, s + cols, 0.0f);
    lse[r] = top + std::log(sum);
  }
}

void causal_probabilities(float* s, int64_t rows, int64_t cols, const CausalMask& mask, float scale,
                          const float* lse) {
  for (int64_t r = 0; r < rows; ++r, s += cols) {
    const auto [begin, end] = seen_by(r, cols, mask);
    const float shift = lse[r];
#pragma omp simd
    for (int64_t c = begin; c < end; ++c) s[c] = fast_exp(scale * s[c] - shift);
    std::fill(s, s + begin, 0.0f);
    std::fill(s + end, s + cols, 0.0f);
  }
}

void softmax_backward(const float* p, float* dp, const float* delta, int64_t rows, int64_t cols,
                      float scale) {
  for (int64_t r = 0; r < rows; ++r, p += cols, dp += cols) {
    const float shift = delta[r];
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) dp[c] = p[c] * (dp[c] - shift) * scale;
  }
}

void row_dots(const float* a, const float* b, float* delta, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, a += cols, b += cols) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < cols; ++c) sum += a[c] * b[c];
    delta[r] = sum;
  }
}

template <typename T>
void rotate(const T* from, T* to, const float* cos, const float* sin, int64_t heads,
            int64_t head_stride, int64_t width, float sign, bool interleaved) {
  const int64_t half = width / 2;
  for (int64_t h = 0; h < heads; ++h, from += head_stride, to += head_stride) {
    for (int64_t j = 0; j < half; ++j) {
      const int64_t a = interleaved ? 2 * j : j;
      const int64_t b = interleaved ? 2 * j + 1 : j + half;
      const float x = get(from[a]), y = get(from[b]);
      const float c = cos[j], s = sign * sin[j];
      put(to[a], x * c - y * s);
      put(to[b], y * c + x * s);
    }
  }
}

void cross_entropy(float* logits, const int64_t* target, float* loss, uint8_t* correct,
                   int64_t rows, int64_t vocab, float scale) {
  for (int64_t r = 0; r < rows; ++r, logits += vocab) {
    float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
    for (int64_t v = 0; v < vocab; ++v) top = std::max(top, logits[v]);
    const float wanted = logits[target[r]];
    // Sums of up to 200,000 terms: partial sums of 1,024 in fp32, then double.
    double sum = 0;
    for (int64_t begin = 0; begin < vocab; begin += 1024) {
      const int64_t end = std::min(vocab, begin + 1024);
      float part = 0;
#pragma omp simd reduction(+ : part)
      for (int64_t v = begin; v < end; ++v) {
        logits[v] = fast_exp(logits[v] - top);
        part += logits[v];
      }
      sum += part;
    }
    loss[r] = static_cast<float>(std::log(sum) + top - wanted);
    correct[r] = wanted >= top;
    const float factor = static_cast<float>(scale / sum);
#pragma omp simd
    for (int64_t v = 0; v < vocab; ++v) logits[v] *= factor;
    logits[target[r]] -= scale;
  }
}

double sum_of_squares(const float* x, int64_t count) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += 1024) {
    const int64_t end = std::min(count, begin + 1024);
    double part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = begin; i < end; ++i) part += static_cast<double>(x[i]) * x[i];
    total += part;
  }
  return total;
}

#define SUTOR_INSTANTIATE(T)                                                                   \
  template void rms_norm_forward<T>(const T*, const T*, T*, float*, int64_t, int64_t, float,   \
                                    bool);                                                     \
  template void rms_norm_backward<T>(const T*, const T*, const T*, const float*, T*, int64_t,  \
                                     int64_t);                                                 \
  template void activation_forward<T>(const GatedActivation&, const T*, const T*, int64_t,     \
                                      const float*, T*, int64_t, int64_t);                     \
  template void activation_backward<T>(const GatedActivation&, const T*, const T*, int64_t,    \
                                       const float*, const T*, T*, T*, T*, float*, int64_t,    \
                                       int64_t);                                               \
  template void sum_rows<T>(const T*, const int64_t*, T*, int64_t, int64_t, int64_t);          \
  template void gather_rows<T>(const T*, const int64_t*, T*, int64_t, int64_t);                \
  template void load_rows<T>(const T*, int64_t, float*, int64_t, int64_t, int64_t);            \
  template void store_rows<T>(const float*, int64_t, T*, int64_t, int64_t, int64_t);           \
  template void transpose_back<T>(const float*, int64_t, int64_t, int64_t, T*, int64_t);       \
  template void rotate<T>(const T*, T*, const float*, const float*, int64_t, int64_t, int64_t, \
                          float, bool);
SUTOR_INSTANTIATE(float)
SUTOR_INSTANTIATE(BFloat)
#undef SUTOR_INSTANTIATE

}  // namespace sutor::ops
