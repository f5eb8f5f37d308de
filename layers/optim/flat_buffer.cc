#include "layers/optim/flat_buffer.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>

#include "csrc/base/error.h"
#include "csrc/ops/device/memory.h"

namespace sutor {

size_t FlatBuffer::add(const std::string& name, const TensorShard& shard, bool decays) {
  tensors_.push_back({name, shard, decays, 0, shard.num_elements()});
  return tensors_.size() - 1;
}

void FlatBuffer::allocate() {
  for (const bool decays : {true, false}) {
    for (Flat& flat : tensors_) {
      if (flat.decays != decays) continue;
      flat.begin = total_;
      total_ += flat.count;
    }
    if (decays) decayed_ = total_;
  }
  set_boundaries();
  values_ = at::zeros({total_}, options_);
  const ops::MemoryScope memory(ops::MemoryItem::kGradients);
  grads_ = at::zeros({total_}, options_.dtype(at::kFloat));
}

// At the row boundary nearest to an equal share.
void FlatBuffer::set_boundaries() {
  const int replicas = replicas_.size();
  boundaries_.assign(static_cast<size_t>(replicas) + 1, total_);
  boundaries_[0] = 0;
  for (int r = 1; r < replicas; ++r) {
    const int64_t wanted = total_ / replicas * r;
    for (const Flat& flat : tensors_) {
      if (wanted < flat.begin || wanted >= flat.begin + flat.count) continue;
      const int64_t row = flat.shard.col_count;
      boundaries_[r] = flat.begin + (wanted - flat.begin + row / 2) / row * row;
    }
  }
  chunk_begin_ = boundaries_[replicas_.rank()];
  chunk_end_ = boundaries_[replicas_.rank() + 1];
}

int64_t FlatBuffer::bytes() const {
  return total_ * static_cast<int64_t>(values_.element_size() + grads_.element_size());
}

at::Tensor FlatBuffer::view(const at::Tensor& buffer, size_t index,
                            std::vector<int64_t> shape) const {
  const int64_t count =
      std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
  return buffer.narrow(0, tensors_[index].begin, count).view(shape).detach();
}

at::Tensor FlatBuffer::slice(const at::Tensor& gathered, size_t index) const {
  return view(gathered, index, tensors_[index].shard.shape());
}
at::Tensor FlatBuffer::value(size_t index) const { return slice(values_, index); }
at::Tensor FlatBuffer::grad(size_t index) const { return slice(grads_, index); }
at::Tensor FlatBuffer::values_from(size_t index, std::vector<int64_t> shape) const {
  return view(values_, index, std::move(shape));
}
at::Tensor FlatBuffer::grads_from(size_t index, std::vector<int64_t> shape) const {
  return view(grads_, index, std::move(shape));
}

void FlatBuffer::zero_grad() { grads_.zero_(); }

// What trains is the same on all replicas, so all of them skip an empty buffer.
void FlatBuffer::start_reduction() {
  if (replicas_.size() == 1 || total_ == 0) return;
  std::vector<int64_t> counts(replicas_.size());
  for (int r = 0; r < replicas_.size(); ++r) counts[r] = boundaries_[r + 1] - boundaries_[r];
  reduction_ = replicas_.start_reduce_scatter(
      std::span(grads_.data_ptr<float>(), static_cast<size_t>(total_)), counts, "reduce gradients");
}

void FlatBuffer::progress_reduction() {
  if (reduction_) reduction_->progress();
}

void FlatBuffer::finish_reduction() {
  if (reduction_) reduction_->finish();
  reduction_.reset();
}

int64_t FlatBuffer::chunk_decayed() const {
  return std::clamp<int64_t>(decayed_ - chunk_begin_, 0, chunk_size());
}

at::Tensor FlatBuffer::chunk_values() const {
  return values_.narrow(0, chunk_begin_, chunk_size());
}
at::Tensor FlatBuffer::chunk_grads() const { return grads_.narrow(0, chunk_begin_, chunk_size()); }

ShardedTensor FlatBuffer::rows_of(const Flat& flat, int64_t first_row, int64_t rows) const {
  ShardedTensor result{.name = flat.name, .global_shape = flat.shard.global_shape};
  result.row_begin = flat.shard.row_begin + first_row;
  result.row_count = rows;
  result.col_begin = flat.shard.col_begin;
  result.col_count = flat.shard.col_count;
  return result;
}

std::vector<FlatBuffer::ChunkRows> FlatBuffer::chunk_rows() const {
  std::vector<ChunkRows> chunk;
  for (const Flat& flat : tensors_) {
    const int64_t begin = std::max(flat.begin, chunk_begin_);
    const int64_t end = std::min(flat.begin + flat.count, chunk_end_);
    if (begin >= end) continue;
    const int64_t row = flat.shard.col_count;
    chunk.push_back(
        {begin - chunk_begin_, rows_of(flat, (begin - flat.begin) / row, (end - begin) / row)});
  }
  std::sort(chunk.begin(), chunk.end(),
            [](const ChunkRows& a, const ChunkRows& b) { return a.offset < b.offset; });
  return chunk;
}

ShardedTensor FlatBuffer::shard(size_t index) const {
  return rows_of(tensors_[index], 0, tensors_[index].shard.row_count);
}

void FlatBuffer::gather_values() { gather_in_place(values_); }

at::Tensor FlatBuffer::gather(const at::Tensor& chunk) const {
  SUTOR_ASSERT(chunk.numel() == chunk_size());
  at::Tensor all = at::zeros({total_}, chunk.options());
  all.narrow(0, chunk_begin_, chunk_size()).copy_(chunk);
  gather_in_place(all);
  return all;
}

void FlatBuffer::gather_in_place(const at::Tensor& buffer) const {
  if (replicas_.size() == 1 || total_ == 0) return;
  const int64_t element = static_cast<int64_t>(buffer.element_size());
  std::vector<int64_t> bytes(replicas_.size());
  for (int r = 0; r < replicas_.size(); ++r) {
    bytes[r] = (boundaries_[r + 1] - boundaries_[r]) * element;
  }
  replicas_.all_gather(
      std::span(static_cast<std::byte*>(buffer.data_ptr()), static_cast<size_t>(total_ * element)),
      bytes, "gather trained weights");
}

}  // namespace sutor
