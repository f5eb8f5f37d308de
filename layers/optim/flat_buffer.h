// The trainable tensors that share their replicas, in two flat buffers: compute copies (model
// dtype) and fp32 gradients, with the reduction of gradients and the gathering of stepped weights.
// ZeRO-1 gives each replica a chunk to step: shard boundaries divide the buffer, at rows, into
// near-equal runs, one a replica. What a step is made of is the optimizer's business (optimizer.h).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include <memory>
#include <string>
#include <vector>

#include "csrc/comm/comm.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {

class FlatBuffer {
 public:
  // options: dtype of the compute copies, and the device of both buffers.
  FlatBuffer(Comm& replicas, const at::TensorOptions& options)
      : replicas_(replicas), options_(options) {}

  // `shard`: what this rank has of the tensor, the same on all replicas. Tensors are laid out in
  // the order of adding, decayed ones first. Returns the index.
  size_t add(const std::string& name, const TensorShard& shard, bool decays);
  void allocate();  // after the last add()

  size_t size() const { return tensors_.size(); }
  int64_t num_elements() const { return total_; }
  at::ScalarType dtype() const { return at::typeMetaToScalarType(options_.dtype()); }
  const at::TensorOptions& options() const { return options_; }
  int64_t bytes() const;  // of compute copies and gradients
  const std::string& name(size_t index) const { return tensors_[index].name; }
  at::Tensor value(size_t index) const;  // view of the compute copy
  at::Tensor grad(size_t index) const;   // view of the fp32 gradient
  // Elements from one tensor to the next in the buffer are contiguous: a view over several of them
  // that were added in a row with equal shapes and decay.
  at::Tensor values_from(size_t index, std::vector<int64_t> shape) const;
  at::Tensor grads_from(size_t index, std::vector<int64_t> shape) const;

  void zero_grad();
  // Collective over the replicas: begins to sum the gradients, which must be complete. Whoever else
  // works meanwhile calls progress_reduction() now and then.
  void start_reduction();
  void progress_reduction();
  void finish_reduction();  // afterwards the gradients of this rank's chunk are valid

  // Element offsets of the chunks, [replicas + 1].
  const std::vector<int64_t>& shard_boundaries() const { return boundaries_; }
  int64_t chunk_size() const { return chunk_end_ - chunk_begin_; }
  int64_t chunk_decayed() const;    // the first so many elements of the chunk take weight decay
  at::Tensor chunk_values() const;  // view, [chunk_size()]
  at::Tensor chunk_grads() const;   // view, [chunk_size()]
  // The rows that the chunk consists of, tensor by tensor, in order.
  struct ChunkRows {
    int64_t offset = 0;  // of the first element in the chunk
    ShardedTensor rows;  // without data
  };
  std::vector<ChunkRows> chunk_rows() const;
  // This rank's shard of one tensor over all chunks; without data.
  ShardedTensor shard(size_t index) const;

  // Collective over the replicas: every compute copy from the replica that stepped it.
  void gather_values();
  // Collective over the replicas: their chunks (any dtype), [chunk_size()] -> [num_elements()].
  at::Tensor gather(const at::Tensor& chunk) const;
  // Of that one tensor's shard: a view.
  at::Tensor slice(const at::Tensor& gathered, size_t index) const;

 private:
  struct Flat {
    std::string name;
    TensorShard shard;
    bool decays;
    int64_t begin = 0, count = 0;
  };
  ShardedTensor rows_of(const Flat& flat, int64_t first_row, int64_t rows) const;
  at::Tensor view(const at::Tensor& buffer, size_t index, std::vector<int64_t> shape) const;
  void set_boundaries();
  void gather_in_place(const at::Tensor& buffer) const;

  Comm& replicas_;
  at::TensorOptions options_;
  std::vector<Flat> tensors_;
  int64_t total_ = 0, decayed_ = 0;
  std::vector<int64_t> boundaries_;
  int64_t chunk_begin_ = 0, chunk_end_ = 0;
  std::unique_ptr<Comm::Pending> reduction_;
  at::Tensor values_, grads_;  // [total]
};

}  // namespace sutor
