// The trained parameters that share their replicas, in flat buffers: compute copy (model dtype),
// fp32 gradient, and for this rank's chunk of rows fp32 master and AdamW moments. The chunk is what
// ZeRO-1 gives this replica: the buffer is cut at row boundaries into near-equal runs, one a
// replica.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "csrc/comm/comm.h"
#include "layers/optim/optim_options.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {

class FlatGroup {
 public:
  FlatGroup(Comm& replicas, at::ScalarType dtype) : replicas_(replicas), dtype_(dtype) {}

  // `piece`: what this rank has of the tensor, the same on all replicas. Tensors are laid out in
  // the order of adding, decayed ones first. Returns the index.
  size_t add(const std::string& name, const TensorShard& piece, bool decays);
  void allocate();  // after the last add()

  size_t size() const { return tensors_.size(); }
  int64_t num_elements() const { return total_; }
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
  void finish_reduction();  // afterwards this rank's chunk is valid
  // Of this rank's chunk, after finish_reduction().
  double sum_of_squares() const;
  void scale_gradients(float factor);  // of the chunk
  // One AdamW step (decoupled decay) of the chunk's masters, then the compute copies.
  void adamw_step(const OptimOptions& options, double lr, int64_t step);
  // Collective over the replicas: every compute copy from its owner.
  void gather_values();
  void masters_from_values();
  void values_from_masters();

  // This rank's piece of the state of every tensor: kind master | exp_avg | exp_avg_sq.
  std::vector<ShardedTensor> state(const std::string& kind);
  // The fp32 master of every piece of the group, on every replica. Collective. The place says which
  // piece it is; its data are those of `values`.
  struct Master {
    ShardedTensor place;
    at::Tensor values;
  };
  std::vector<Master> full_masters();
  int64_t state_bytes() const;

 private:
  struct Flat {
    std::string name;
    TensorShard piece;
    bool decays;
    int64_t begin = 0, count = 0;
  };
  ShardedTensor place_of(const Flat& flat, int64_t first_row, int64_t rows, float* data) const;
  at::Tensor view(const at::Tensor& buffer, size_t index, std::vector<int64_t> shape) const;

  Comm& replicas_;
  at::ScalarType dtype_;
  std::vector<Flat> tensors_;
  int64_t total_ = 0, decayed_ = 0;
  std::vector<int64_t> cuts_;  // [replicas + 1] element offsets, at row boundaries
  int64_t chunk_begin_ = 0, chunk_end_ = 0;
  std::unique_ptr<Comm::Pending> reduction_;
  at::Tensor values_, grads_;                 // [total]
  at::Tensor master_, exp_avg_, exp_avg_sq_;  // [chunk]; master aliases values_ in fp32
};

}  // namespace sutor
