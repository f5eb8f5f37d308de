#include "checkpoint/store/open_model.h"

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/store/base_store.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;

std::unique_ptr<ModelDirectory> open_model(const std::filesystem::path& path) {
  if (is_base_store(path)) return std::make_unique<BaseStore>(path);
  return std::make_unique<HfDirectory>(path);
}

fs::path model_files_root(const fs::path& path) {
  return is_base_store(path) ? path / kStoreFilesFolder : path;
}

std::string read_model_config(const fs::path& path) {
  if (is_base_store(path)) return read_store_config(path, read_store_manifest(path));
  const fs::path file = is_folder(path) ? path / "config.json" : path;
  if (!is_there(file)) {
    fail(ErrorCode::kNoModel, "{}: there is no config.json of a model.", path.string());
  }
  return read_file(file, kMaxConfigFileBytes);
}

}  // namespace sutor
