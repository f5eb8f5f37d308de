// MANIFEST.json of a base store, signed anew.
#include "checkpoint/store/store_manifest.h"
#include "tests/fuzz/resigned.h"
#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) {
  const StoreManifest manifest = decode_store_manifest(resigned_manifest(bytes), "MANIFEST.json");
  manifest.total_bytes();
  manifest.file_sizes();
  manifest.find_file("config.json");
}

std::vector<std::string> seeds() {
  StoreManifest manifest;
  manifest.weights = xxh3("weights");
  manifest.tensors = 3;
  manifest.data_bytes = 4096;
  manifest.max_file_bytes = 1 << 20;
  manifest.shards = {{"model.safetensors", 5000, 904, xxh3("header")}};
  manifest.data_files = {{4096, 300, xxh3("index")}};
  manifest.other_files = {{"a/b.txt", 1, xxh3("b")}, {"config.json", 300, xxh3("config")}};
  manifest.provenance = {{"program", "sutor"}};
  return {encode_store_manifest(manifest)};
}

}  // namespace

const FuzzTarget kStoreManifest{"store_manifest", read, seeds};

}  // namespace sutor::fuzz
