// The recipe's `parallel:` section: sizes of the axes and how experts are placed.
#pragma once

#include <string>

namespace sutor {

struct ParallelOptions {
  // Sizes of the axes; 1 = not used. The data-parallel sizes follow from the number of ranks.
  int tp = 1;                            // shards of heads, widths and vocabulary of dense modules
  int cp = 1;                            // shards of the tokens of each document
  int pp = 1;                            // pipeline stages
  int ep = 1;                            // ranks over which a layer's experts are spread
  int etp = 1;                           // shards of the matrices of each routed expert
  std::string order = "tp-cp-ep-dp-pp";  // leftmost varies fastest over ranks
  // even: the first stages take the remainder | auto: by the layers' costs | the number of layers
  // of each stage, such as 14,13
  std::string stages = "even";
  // auto (= true where tp > 1) | true: between tensor-parallel regions the tokens are sharded over
  // the ranks of tp | false: they are replicated
  std::string sequence_parallel = "auto";
  // contiguous: as in Megatron | balanced: by the run's scores and what trains
  std::string expert_placement = "contiguous";
  int frozen_replicas = 0;  // most used frozen experts of a layer, replicated on every rank of ep
  // alltoall: rows go to the ranks of their experts | allgather: all rows go to all ranks
  std::string dispatcher = "alltoall";
};

}  // namespace sutor
