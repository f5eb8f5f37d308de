#include "checkpoint/open_model.h"

#include "checkpoint/base_store.h"
#include "checkpoint/hf_directory.h"

namespace sutor {

std::unique_ptr<ModelDirectory> open_model(const std::filesystem::path& path) {
  if (is_base_store(path)) return std::make_unique<BaseStore>(path);
  return std::make_unique<HfDirectory>(path);
}

}  // namespace sutor
