// Token stores of given document lengths for tests of the sample order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/data/token_store.h"
#include "tests/support/temp_dir.h"

namespace sutor::testing {

// Documents of the given lengths; ids count up from `first_id`; every token but a document's first
// is in the loss, unless its document is listed in `masked`.
inline TokenStore make_store(const TempDir& dir, const std::string& name,
                             const std::vector<int64_t>& lengths, int32_t first_id = 0,
                             const std::vector<size_t>& masked = {}) {
  std::vector<int32_t> ids;
  std::vector<uint8_t> mask;
  std::vector<int64_t> offsets = {0};
  for (size_t d = 0; d < lengths.size(); ++d) {
    bool in_loss = true;
    for (const size_t document : masked) in_loss = in_loss && document != d;
    for (int64_t i = 0; i < lengths[d]; ++i) {
      ids.push_back(first_id + static_cast<int32_t>(ids.size()));
      mask.push_back(i > 0 && in_loss);
    }
    offsets.push_back(static_cast<int64_t>(ids.size()));
  }
  TokenStoreInfo info;
  info.vocab_size = first_id + static_cast<int64_t>(ids.size());
  const auto path = dir / (name + ".tokens.h5");
  write_token_store(path, ids, mask, offsets, info);
  return TokenStore(path);
}

}  // namespace sutor::testing
