// Fills the weights of all ranks from the model's files, each stored byte fetched at most once on a
// node: what several of its ranks hold is read by one of them and sent to the others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/model/model_source.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

// Bytes of weights that were fetched from the disk to fill a model.
struct WeightReads {
  std::vector<int64_t> of_rank;  // of the world
  std::vector<int64_t> of_node;  // sums, by number of node
  int64_t stored = 0;            // of all tensors together
};

// Collective over the world. `pieces`: this rank's of the model's tensors, to be filled. On top of
// them it needs memory for some windows of 64 MiB, more only when one tensor of a base store cannot
// be read in parts. Reads on `threads` threads.
WeightReads load_weights(const ModelSource& source, const ParallelState& parallel,
                         const std::vector<ShardedTensor>& shards, int threads);

// "1.2 GiB of 3.4 GiB read by this rank (0.9 GiB to 1.2 GiB a rank, 3.4 GiB on the node)"
std::string reads_text(const WeightReads& reads, int rank);

}  // namespace sutor
