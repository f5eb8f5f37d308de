// MANIFEST.json of a checkpoint, signed anew.
#include "checkpoint/format/manifest.h"
#include "tests/fuzz/resigned.h"
#include "tests/fuzz/targets.h"
#include "tests/support/checkpoint_fixture.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) {
  const Manifest manifest = decode_manifest(resigned_manifest(bytes), "MANIFEST.json");
  manifest.total_bytes();
  manifest.file_sizes();
}

std::vector<std::string> seeds() {
  Manifest manifest;
  manifest.meta = testing::sample_meta(7);
  manifest.uuid = "0123456789abcdef";
  manifest.files = {{.writer = 0, .bytes = 8192, .index_bytes = 300, .tiles = 9},
                    {.writer = 1, .bytes = 4096, .index_bytes = 200, .tiles = 3}};
  manifest.state_bytes = 1024;
  manifest.tensors = 3;
  manifest.parameters = 784;
  return {encode_manifest(manifest)};
}

}  // namespace

const FuzzTarget kCheckpointManifest{"checkpoint_manifest", read, seeds};

}  // namespace sutor::fuzz
