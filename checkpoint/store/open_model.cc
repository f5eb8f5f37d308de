#include "checkpoint/store/open_model.h"

#include "checkpoint/files/recorded_files.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/huggingface/hf_index.h"
#include "checkpoint/store/base_store.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;

namespace {

constexpr const char* kRepair =
    "Fetch or export the model again; or, if the change is meant, remove that record.";

// Before anything that they say counts: files that are read whole at once; of others the size.
void check_small_files(const fs::path& path) {
  const ModelRecord record = recorded_model_files(path);
  for (const RecordedFile& file : record.files) {
    if (file.path == "config.json" || file.path == kIndexFile) {
      require_recorded(path, {file}, /*threads=*/1, kRepair);
    } else {
      require_size(path, file, kRepair);
    }
  }
}

}  // namespace

void check_recorded_model(const ModelDirectory& model, int threads) {
  if (is_base_store(model.path())) return;
  require_recorded(model.path(), recorded_model_files(model.path()).files, threads, kRepair);
}

std::unique_ptr<ModelDirectory> open_model(const std::filesystem::path& path) {
  if (is_base_store(path)) return std::make_unique<BaseStore>(path);
  check_small_files(path);
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
