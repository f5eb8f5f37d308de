// The recipe's `parallel:` section: sizes of the axes and how experts are placed.
#pragma once

#include <string>

namespace sutor {

struct ParallelOptions {
  int tp = 1;                            // tensor parallel size of dense parts
  int cp = 1;                            // context parallel size
  int pp = 1;                            // pipeline stages
  int ep = 1;                            // expert parallel size
  int etp = 1;                           // tensor parallel size inside an expert
  std::string order = "tp-cp-ep-dp-pp";  // leftmost varies fastest over ranks
  std::string stages = "even";
  std::string sequence_parallel = "auto";
  std::string expert_placement = "contiguous";  // contiguous | balanced
  int frozen_replicas = 0;
  std::string dispatcher = "alltoall";  // alltoall | allgather
};

}  // namespace sutor
