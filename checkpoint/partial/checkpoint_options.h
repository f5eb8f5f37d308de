// The recipe's `checkpoint:` and `export:` sections.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sutor {

struct CheckpointOptions {
  int64_t every = 50;          // steps; 0 = only at the end
  int keep = 3;                // newest ones kept; best and last are never deleted
  bool async = true;           // written beside the steps that follow
  std::vector<int64_t> pin{};  // steps that are never deleted
};

struct ExportOptions {
  std::vector<std::string> format = {"adapter", "merged"};
  // For trained matrices that the base has quantised, in a merged export: dequantize | requantize.
  std::string quantized = "dequantize";
};

}  // namespace sutor
