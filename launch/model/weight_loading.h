// Fills the weights of all ranks from the model's files and fetches each stored byte at most once
// per node: of several ranks that need it, one reads it and sends it to the others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/model/model_source.h"
#include "layers/shards/shard_values.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

// Bytes of weights that were fetched from disk to fill a model.
struct WeightReads {
  std::vector<int64_t> of_rank;  // of the world
  std::vector<int64_t> of_node;  // sums, by node
  int64_t stored = 0;            // of all tensors together
};

// Collective over the world. `shards`: those of this rank, to be filled. Needs memory for a few
// read buffers of 64 MiB besides, more only when a tensor of a base store cannot be read in slices.
// Reads on `threads` threads.
WeightReads load_weights(const ModelSource& source, const ParallelState& parallel,
                         const std::vector<ShardValues>& shards, int threads);

// "1.2 GiB of 3.4 GiB read by this rank (0.9 GiB to 1.2 GiB a rank, 3.4 GiB on the node)"
std::string reads_text(const WeightReads& reads, int rank);

}  // namespace sutor
