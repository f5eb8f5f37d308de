// Records of router choices as they are in files, before anything is known of the model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace sutor {

// The choices of one forward pass at one layer.
struct RecordedPass {
  std::string where;  // file:line
  std::vector<int64_t> ids;
  std::vector<float> weights;  // finite and not negative, but not always at most 1
};
using LayerRecords = std::map<int, std::vector<RecordedPass>>;  // by layer

// Of a folder and of its rank_*/ folders. Throws E0326 with file and line.
LayerRecords all_records(const std::filesystem::path& folder);

}  // namespace sutor
