#include "checkpoint/open_model.h"

#include "checkpoint/hf_directory.h"

namespace sutor {

std::unique_ptr<ModelDirectory> open_model(const std::filesystem::path& path) {
  return std::make_unique<HfDirectory>(path);
}

}  // namespace sutor
