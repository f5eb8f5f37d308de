#include "checkpoint/compare/tensor_diff.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 18;
constexpr int64_t kChunkBytes = int64_t{1} << 20;

bool is_float(const std::optional<DType>& dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

// A tensor read piece by piece in a dtype that may be another than its own.
class ElementReader {
 public:
  ElementReader(const SetTensor& tensor, DType dtype) : tensor_(tensor), dtype_(dtype) {}

  std::span<const std::byte> read(int64_t begin, int64_t count) {
    const auto own = static_cast<int64_t>(size_of(*tensor_.dtype));
    raw_.resize(static_cast<size_t>(count * own));
    tensor_.read(begin * own, raw_);
    if (*tensor_.dtype == dtype_) return raw_;
    converted_.resize(static_cast<size_t>(count) * size_of(dtype_));
    convert_elements(raw_.data(), *tensor_.dtype, converted_.data(), dtype_, count);
    return converted_;
  }

 private:
  const SetTensor& tensor_;
  DType dtype_;
  std::vector<std::byte> raw_, converted_;
};

Digest digest_of(const SetTensor& tensor) {
  Hasher hasher;
  std::vector<std::byte> buffer;
  for (int64_t at = 0; at < tensor.bytes; at += kChunkBytes) {
    buffer.resize(static_cast<size_t>(std::min(kChunkBytes, tensor.bytes - at)));
    tensor.read(at, buffer);
    hasher.update(buffer);
  }
  return hasher.digest();
}

bool same_bytes(const SetTensor& a, const SetTensor& b) {
  std::vector<std::byte> left, right;
  for (int64_t at = 0; at < a.bytes; at += kChunkBytes) {
    left.resize(static_cast<size_t>(std::min(kChunkBytes, a.bytes - at)));
    right.resize(left.size());
    a.read(at, left);
    b.read(at, right);
    if (std::memcmp(left.data(), right.data(), left.size()) != 0) return false;
  }
  return true;
}

// Of a master and a weight of another dtype: the master rounded to that.
bool same_rounded(const SetTensor& a, const SetTensor& b, DType dtype) {
  ElementReader left(a, dtype), right(b, dtype);
  const int64_t count = num_elements(a.shape);
  for (int64_t at = 0; at < count; at += kChunkElements) {
    const int64_t chunk = std::min(kChunkElements, count - at);
    const auto in_a = left.read(at, chunk), in_b = right.read(at, chunk);
    if (std::memcmp(in_a.data(), in_b.data(), in_a.size()) != 0) return false;
  }
  return true;
}

TensorChange change_of(const SetTensor& a, const SetTensor& b) {
  if (a.shape != b.shape) return TensorChange::kShape;
  if (a.dtype_name != b.dtype_name) {
    if (a.master == b.master || !is_float(a.dtype) || !is_float(b.dtype)) {
      return TensorChange::kDType;
    }
    const bool same = same_rounded(a, b, a.master ? *b.dtype : *a.dtype);
    return same ? TensorChange::kEqual : TensorChange::kValues;
  }
  bool same = false;
  if (a.digest || b.digest) {
    same = (a.digest ? *a.digest : digest_of(a)) == (b.digest ? *b.digest : digest_of(b));
  } else {
    same = same_bytes(a, b);
  }
  return same ? TensorChange::kEqual : TensorChange::kValues;
}

Distance distance_of(const SetTensor& a, const SetTensor& b) {
  ElementReader left(a, DType::kF32), right(b, DType::kF32);
  // Through the other side's dtype, so that rounding a master is no difference.
  const bool round_a = a.master && !b.master, round_b = b.master && !a.master;
  std::vector<std::byte> rounded, back;
  const auto floats = [&](std::span<const std::byte> bytes, bool round, DType to, int64_t count) {
    if (!round || to == DType::kF32) return reinterpret_cast<const float*>(bytes.data());
    rounded.resize(static_cast<size_t>(count) * size_of(to));
    back.resize(static_cast<size_t>(count) * sizeof(float));
    convert_elements(bytes.data(), DType::kF32, rounded.data(), to, count);
    convert_elements(rounded.data(), to, back.data(), DType::kF32, count);
    return reinterpret_cast<const float*>(back.data());
  };
  Distance distance;
  double squares = 0, reference = 0;
  const int64_t count = num_elements(a.shape);
  for (int64_t at = 0; at < count; at += kChunkElements) {
    const int64_t chunk = std::min(kChunkElements, count - at);
    const float* in_a = floats(left.read(at, chunk), round_a, *b.dtype, chunk);
    const float* in_b = floats(right.read(at, chunk), round_b, *a.dtype, chunk);
    for (int64_t i = 0; i < chunk; ++i) {
      const double delta = static_cast<double>(in_b[i]) - static_cast<double>(in_a[i]);
      // A NaN stays: nothing is larger.
      if (std::isnan(delta) || std::abs(delta) > distance.max_abs) {
        distance.max_abs = std::abs(delta);
      }
      squares += delta * delta;
      reference += static_cast<double>(in_a[i]) * static_cast<double>(in_a[i]);
    }
  }
  distance.relative = reference > 0  ? std::sqrt(squares / reference)
                      : squares == 0 ? 0
                                     : std::numeric_limits<double>::infinity();
  return distance;
}

TensorDiff diff_of(const SetTensor* a, const SetTensor* b, bool distances) {
  if (!a) return {TensorChange::kOnlyB};
  if (!b) return {TensorChange::kOnlyA};
  TensorDiff diff{change_of(*a, *b)};
  const bool measurable =
      diff.change == TensorChange::kValues || diff.change == TensorChange::kDType;
  if (distances && measurable && is_float(a->dtype) && is_float(b->dtype)) {
    diff.distance = distance_of(*a, *b);
  }
  return diff;
}

bool same_names(const TensorSet& a, const TensorSet& b) {
  return std::equal(a.tensors().begin(), a.tensors().end(), b.tensors().begin(), b.tensors().end(),
                    [](const auto& x, const auto& y) { return x.first == y.first; });
}

// Which content differs.
void diff_content(const TensorSet& a, const TensorSet& b, SetDiff& diff) {
  diff.content_compared = a.kind() == b.kind() || (a.is_model() && b.is_model());
  if (!diff.content_compared) return;
  const auto in_a = a.other_content(), in_b = b.other_content();
  for (const auto& [name, text] : in_a) {
    const auto at = in_b.find(name);
    if (at == in_b.end()) diff.content[name] = "only in A";
    if (at != in_b.end() && at->second != text) diff.content[name] = "differs";
  }
  for (const auto& [name, text] : in_b) {
    if (!in_a.contains(name)) diff.content[name] = "only in B";
  }
}

}  // namespace

std::string_view name_of(TensorChange change) {
  switch (change) {
    case TensorChange::kEqual:
      return "equal";
    case TensorChange::kValues:
      return "values";
    case TensorChange::kShape:
      return "shape";
    case TensorChange::kDType:
      return "dtype";
    case TensorChange::kOnlyA:
      return "only in A";
    case TensorChange::kOnlyB:
      break;
  }
  return "only in B";
}

int64_t SetDiff::count(TensorChange change) const {
  return std::count_if(tensors.begin(), tensors.end(),
                       [&](const auto& tensor) { return tensor.second.change == change; });
}

bool SetDiff::equal() const {
  return content.empty() && count(TensorChange::kEqual) == static_cast<int64_t>(tensors.size());
}

SetDiff diff_sets(TensorSet& a, TensorSet& b, bool distances, int threads) {
  if (!same_names(a, b)) {
    a.split();
    b.split();
  }
  SetDiff diff;
  for (const TensorSet* set : {&a, &b}) {
    for (const auto& [name, tensor] : set->tensors()) diff.tensors[name];
  }
  std::vector<std::pair<const std::string*, TensorDiff*>> work;
  for (auto& [name, tensor] : diff.tensors) work.emplace_back(&name, &tensor);
  parallel_tasks(threads, static_cast<int64_t>(work.size()), [&](int64_t i) {
    const auto& [name, result] = work[static_cast<size_t>(i)];
    const auto in_a = a.tensors().find(*name), in_b = b.tensors().find(*name);
    *result = diff_of(in_a == a.tensors().end() ? nullptr : &in_a->second,
                      in_b == b.tensors().end() ? nullptr : &in_b->second, distances);
  });
  diff_content(a, b, diff);
  return diff;
}

}  // namespace sutor
