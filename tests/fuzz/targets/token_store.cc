// A token store, sealed anew.
#include "launch/data/token_store.h"

#include "csrc/base/error.h"
#include "tests/fuzz/resigned.h"
#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) {
  const TokenStore store(input_file(resealed(bytes), "rows.tokens.h5"));
  for (int64_t i = 0; i < store.num_documents(); ++i) {
    const Document document = store.document(i);
    store.ids(document.begin, document.length);
    store.loss_mask(document.begin, document.length);
  }
  store.digest();
}

std::vector<std::string> seeds() {
  const std::vector<int32_t> ids = {5, 6, 7, 8, 9};
  const std::vector<uint8_t> mask = {0, 1, 1, 0, 1};
  const std::vector<int64_t> offsets = {0, 3, 5};
  TokenStoreInfo info;
  info.vocab_size = 64;
  info.source_name = "rows.jsonl";
  return {written("new.h5", [&](const std::filesystem::path& path) {
    write_token_store(path, ids, mask, offsets, info);
  })};
}

}  // namespace

const FuzzTarget kTokenStore{"token_store", read, seeds};

}  // namespace sutor::fuzz
