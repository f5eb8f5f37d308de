// The index of a data file of a base store, signed anew.
#include "checkpoint/store/store_index.h"

#include "tests/fuzz/resigned.h"
#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) {
  decode_store_index(resigned_index(bytes), "b0000.idx").ranges();
}

std::vector<std::string> seeds() {
  StoreIndex index;
  index.file_bytes = int64_t{1} << 16;
  index.metadata_digest = xxh3("metadata");
  index.tensors = {{"model.norm.weight", "BF16", {16}, 32, kBlockBytes, xxh3("norm")},
                   {"model.embed_tokens.weight", "BF16", {64, 16}, 2048, kBlockBytes, {}}};
  index.tiles = {{0, 0, 32, 4096, {1}}, {1, 0, 1024, 8192, {2}}, {1, 1024, 1024, 12288, {3}}};
  return {encode_store_index(index)};
}

}  // namespace

const FuzzTarget kStoreIndex{"store_index", read, seeds};

}  // namespace sutor::fuzz
