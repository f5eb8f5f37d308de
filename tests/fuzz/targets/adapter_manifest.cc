// sutor_adapter.json beside a whole adapter of one tensor.
#include "checkpoint/export/adapter.h"
#include "csrc/base/file.h"
#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

constexpr const char* kTensor = "model.layers.1.mlp.experts.7.up_proj.weight";

const std::filesystem::path& adapter() {
  static const std::filesystem::path path = [] {
    const std::filesystem::path folder = empty_place("adapter");
    static const std::vector<float> values(8, 0.5f);
    TrainedTensor tensor{.name = kTensor, .shape = {2, 4}};
    tensor.read = [](const ShardedTensor& slice) {
      std::fill_n(reinterpret_cast<float*>(slice.data), slice.num_elements(), 0.5f);
    };
    write_adapter(folder, {tensor}, {.experts = {{1, {7}}}},
                  {.base_digest = xxh3("base").text(), .provenance = {{"program", "sutor"}}});
    return folder;
  }();
  return path;
}

void read(const std::string& bytes) {
  const std::filesystem::path file = adapter() / kAdapterInfoFile;
  std::filesystem::remove(file);
  write_new_file(file, bytes);
  const Adapter read(adapter());
  read.trained_tensors();
}

std::vector<std::string> seeds() {
  static const std::string whole = bytes_of(adapter() / kAdapterInfoFile);
  return {whole};
}

}  // namespace

const FuzzTarget kAdapterManifest{"adapter_manifest", read, seeds};

}  // namespace sutor::fuzz
