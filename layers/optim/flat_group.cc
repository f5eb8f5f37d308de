#include "layers/optim/flat_group.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <numeric>

#include "csrc/base/error.h"
#include "csrc/ops/cpu/row_kernels.h"

namespace sutor {

size_t FlatGroup::add(const std::string& name, const TensorShard& piece, bool decays) {
  tensors_.push_back({name, piece, decays, 0, piece.num_elements()});
  return tensors_.size() - 1;
}

void FlatGroup::allocate() {
  for (const bool decays : {true, false}) {
    for (Flat& flat : tensors_) {
      if (flat.decays != decays) continue;
      flat.begin = total_;
      total_ += flat.count;
    }
    if (decays) decayed_ = total_;
  }
  // Cuts at the row boundary nearest to an equal share.
  const int replicas = replicas_.size();
  cuts_.assign(static_cast<size_t>(replicas) + 1, total_);
  cuts_[0] = 0;
  for (int r = 1; r < replicas; ++r) {
    const int64_t wanted = total_ / replicas * r;
    for (const Flat& flat : tensors_) {
      if (wanted < flat.begin || wanted >= flat.begin + flat.count) continue;
      const int64_t row = flat.piece.col_count;
      cuts_[r] = flat.begin + (wanted - flat.begin + row / 2) / row * row;
    }
  }
  chunk_begin_ = cuts_[replicas_.rank()];
  chunk_end_ = cuts_[replicas_.rank() + 1];
  const auto fp32 = at::TensorOptions().dtype(at::kFloat);
  values_ = at::zeros({total_}, at::TensorOptions().dtype(dtype_));
  grads_ = at::zeros({total_}, fp32);
  const int64_t chunk = chunk_end_ - chunk_begin_;
  master_ =
      dtype_ == at::kFloat ? values_.narrow(0, chunk_begin_, chunk) : at::zeros({chunk}, fp32);
  exp_avg_ = at::zeros({chunk}, fp32);
  exp_avg_sq_ = at::zeros({chunk}, fp32);
}

at::Tensor FlatGroup::view(const at::Tensor& buffer, size_t index,
                           std::vector<int64_t> shape) const {
  const int64_t count =
      std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
  return buffer.narrow(0, tensors_[index].begin, count).view(shape).detach();
}

at::Tensor FlatGroup::value(size_t index) const {
  return view(values_, index, tensors_[index].piece.shape());
}
at::Tensor FlatGroup::grad(size_t index) const {
  return view(grads_, index, tensors_[index].piece.shape());
}
at::Tensor FlatGroup::values_from(size_t index, std::vector<int64_t> shape) const {
  return view(values_, index, std::move(shape));
}
at::Tensor FlatGroup::grads_from(size_t index, std::vector<int64_t> shape) const {
  return view(grads_, index, std::move(shape));
}

void FlatGroup::zero_grad() { grads_.zero_(); }

// What trains is the same on all replicas, so all of them skip an empty group.
void FlatGroup::start_reduction() {
  if (replicas_.size() == 1 || total_ == 0) return;
  std::vector<int64_t> counts(replicas_.size());
  for (int r = 0; r < replicas_.size(); ++r) counts[r] = cuts_[r + 1] - cuts_[r];
  reduction_ = replicas_.start_reduce_scatter(
      std::span(grads_.data_ptr<float>(), static_cast<size_t>(total_)), counts, "reduce gradients");
}

void FlatGroup::progress_reduction() {
  if (reduction_) reduction_->progress();
}

void FlatGroup::finish_reduction() {
  if (reduction_) reduction_->finish();
  reduction_.reset();
}

double FlatGroup::sum_of_squares() const {
  // Blocks of fixed size, summed in order: the same bits whatever the number of threads.
  constexpr int64_t kBlock = int64_t{1} << 20;
  const int64_t chunk = chunk_end_ - chunk_begin_;
  const int64_t blocks = (chunk + kBlock - 1) / kBlock;
  std::vector<double> parts(static_cast<size_t>(blocks), 0.0);
  const float* data = grads_.data_ptr<float>() + chunk_begin_;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      parts[b] = ops::sum_of_squares(data + b * kBlock, std::min(kBlock, chunk - b * kBlock));
    }
  });
  return std::accumulate(parts.begin(), parts.end(), 0.0);
}

void FlatGroup::scale_gradients(float factor) {
  grads_.narrow(0, chunk_begin_, chunk_end_ - chunk_begin_).mul_(factor);
}

void FlatGroup::adamw_step(const OptimOptions& options, double lr, int64_t step) {
  const at::Tensor step_count = at::full({}, static_cast<double>(step), at::kFloat);
  const auto run = [&](int64_t begin, int64_t end, double decay) {
    if (begin >= end) return;
    const auto part = [&](const at::Tensor& chunk) {
      return chunk.narrow(0, begin - chunk_begin_, end - begin);
    };
    std::vector<at::Tensor> masters{part(master_)}, grads{grads_.narrow(0, begin, end - begin)};
    std::vector<at::Tensor> first{part(exp_avg_)}, second{part(exp_avg_sq_)};
    std::vector<at::Tensor> steps{step_count};
    at::_fused_adamw_(masters, grads, first, second, {}, steps, lr, options.beta1, options.beta2,
                      decay, options.eps, /*amsgrad=*/false, /*maximize=*/false);
  };
  run(chunk_begin_, std::min(chunk_end_, decayed_), options.weight_decay);
  run(std::max(chunk_begin_, decayed_), chunk_end_, 0.0);
  values_from_masters();
}

void FlatGroup::values_from_masters() {
  if (dtype_ == at::kFloat) return;
  values_.narrow(0, chunk_begin_, chunk_end_ - chunk_begin_).copy_(master_);
}

void FlatGroup::masters_from_values() {
  if (dtype_ == at::kFloat) return;
  master_.copy_(values_.narrow(0, chunk_begin_, chunk_end_ - chunk_begin_));
}

void FlatGroup::gather_values() {
  if (replicas_.size() == 1 || total_ == 0) return;
  const int64_t element = static_cast<int64_t>(values_.element_size());
  std::vector<int64_t> bytes(replicas_.size());
  for (int r = 0; r < replicas_.size(); ++r) bytes[r] = (cuts_[r + 1] - cuts_[r]) * element;
  replicas_.all_gather(
      std::span(static_cast<std::byte*>(values_.data_ptr()), static_cast<size_t>(total_ * element)),
      bytes, "gather trained weights");
}

ShardedTensor FlatGroup::place_of(const Flat& flat, int64_t first_row, int64_t rows,
                                  float* data) const {
  ShardedTensor place{
      .name = flat.name, .dtype = DType::kF32, .global_shape = flat.piece.global_shape};
  place.row_begin = flat.piece.row_begin + first_row;
  place.row_count = rows;
  place.col_begin = flat.piece.col_begin;
  place.col_count = flat.piece.col_count;
  place.data = reinterpret_cast<std::byte*>(data);
  return place;
}

std::vector<ShardedTensor> FlatGroup::state(const std::string& kind) {
  SUTOR_ASSERT(kind == "master" || kind == "exp_avg" || kind == "exp_avg_sq");
  at::Tensor& buffer = kind == "master" ? master_ : kind == "exp_avg" ? exp_avg_ : exp_avg_sq_;
  std::vector<ShardedTensor> pieces;
  for (const Flat& flat : tensors_) {
    const int64_t begin = std::max(flat.begin, chunk_begin_);
    const int64_t end = std::min(flat.begin + flat.count, chunk_end_);
    if (begin >= end) continue;
    const int64_t row = flat.piece.col_count;
    pieces.push_back(place_of(flat, (begin - flat.begin) / row, (end - begin) / row,
                              buffer.data_ptr<float>() + (begin - chunk_begin_)));
  }
  return pieces;
}

std::vector<FlatGroup::Master> FlatGroup::full_masters() {
  at::Tensor all = at::zeros({total_}, at::TensorOptions().dtype(at::kFloat));
  all.narrow(0, chunk_begin_, chunk_end_ - chunk_begin_).copy_(master_);
  std::vector<int64_t> bytes(replicas_.size());
  for (int r = 0; r < replicas_.size(); ++r) bytes[r] = (cuts_[r + 1] - cuts_[r]) * 4;
  replicas_.all_gather(std::span(reinterpret_cast<std::byte*>(all.data_ptr<float>()),
                                 static_cast<size_t>(total_ * 4)),
                       bytes, "gather masters");
  std::vector<Master> result;
  for (const Flat& flat : tensors_) {
    const at::Tensor values = all.narrow(0, flat.begin, flat.count).view(flat.piece.shape());
    result.push_back({place_of(flat, 0, flat.piece.row_count, values.data_ptr<float>()), values});
  }
  return result;
}

int64_t FlatGroup::state_bytes() const {
  const int64_t chunk = chunk_end_ - chunk_begin_;
  const int64_t masters = dtype_ == at::kFloat ? 0 : 4 * chunk;
  return total_ * (static_cast<int64_t>(values_.element_size()) + 4) + masters + 8 * chunk;
}

}  // namespace sutor
