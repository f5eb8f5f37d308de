// A token store, `*.tokens.h5`: the tokens of one data set, which of them are in the loss, and
// where documents begin. tools/prepare.py writes it (h5py); training and scoring read it.
//
// Layout (checkpoint/FORMAT.md draws it). N tokens, D documents; every dataset is contiguous,
// little endian, without filters or links:
//   /ids          int32 or uint32 [N]  token ids, documents one after the other, no padding
//   /loss_mask    uint8 [N]            1: the token is a target of the loss; 0 for the first token
//                                      of every document, which nothing predicts
//   /doc_offsets  int64 [D + 1]        document d is [doc_offsets[d], doc_offsets[d + 1]); strictly
//                                      rising from 0 to N
// Attributes of the root group; integers are int64 scalars, text is a UTF-8 string scalar:
//   format = "sutor.token_store"; format_version = 1; producer (program and version);
//   tokenizer_digest, template_digest ("" when none was used), source_name, source_digest
//   ("sha256:<hex>", or any "<algorithm>:<hex>"; compared as text), source_bytes;
//   rows (of the source), documents = D, tokens = N, supervised_tokens = sum of loss_mask,
//   vocab_size, bos_id, eos_id (-1: none), max_id (of /ids, -1 when N = 0);
//   inputs (optional): JSON object as text, digests of the files beside tokenizer and model;
//   options, counts: JSON objects as text (what was requested: loss_on, format, ...; what happened
//   to rows: dropped, truncated, ...);
//   checksum: sum over t of (t + 1) (2 ids[t] + loss_mask[t] + 1), plus sum over d = 0 .. D of
//   (N + d + 1) doc_offsets[d], modulo 2^64, stored as uint64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "csrc/base/hash.h"

namespace sutor {

// The attributes. The writer computes tokens, documents, supervised_tokens and max_id.
struct TokenStoreInfo {
  std::string producer;
  std::string tokenizer_digest;
  std::string template_digest;
  std::string source_name;
  std::string source_digest;
  int64_t source_bytes = 0;
  int64_t rows = 0;
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t supervised_tokens = 0;
  int64_t vocab_size = 0;
  int64_t bos_id = -1;
  int64_t eos_id = -1;
  int64_t max_id = -1;
  nlohmann::json options = nlohmann::json::object();
  nlohmann::json counts = nlohmann::json::object();
  // "sha256:<hex>" or "absent" of further files that decided the tokens, by role
  // ("model/config.json"); null in older files.
  nlohmann::json inputs;
};

// The tokens of a document in the store.
struct Document {
  int64_t begin = 0;
  int64_t length = 0;
};

// Read-only; safe to share between threads. Tokens stay in the mapped file where its alignment
// allows, so that the ranks of a node share them.
class TokenStore {
 public:
  // Opens the file and checks all of it, once. Throws E0331: missing, unreadable or not HDF5;
  // E0332: not a token store, or another version; E0333: truncated, contradictory offsets or
  // counts, checksum mismatch. Each names the file and what was expected and found.
  explicit TokenStore(const std::filesystem::path& path);
  ~TokenStore();
  TokenStore(TokenStore&&) noexcept;
  TokenStore& operator=(TokenStore&&) noexcept;

  const std::filesystem::path& path() const;
  const TokenStoreInfo& info() const;
  int64_t num_documents() const;
  int64_t num_tokens() const;
  int64_t num_supervised() const;

  Document document(int64_t index) const;
  // Tokens [begin, begin + length) of the store.
  std::span<const int32_t> ids(int64_t begin, int64_t length) const;
  std::span<const uint8_t> loss_mask(int64_t begin, int64_t length) const;

  // Throws E0330 naming document, position and id when a token id is >= vocab_size.
  void check_vocab(int64_t vocab_size) const;
  // Throws E0334 when no token is in the loss.
  void check_supervised() const;
  // Of ids, loss mask and offsets: equal for equal content, in whatever file.
  Digest digest() const;

 private:
  struct Data;
  std::unique_ptr<Data> data_;
};

// Writes a store; `path` appears complete or not at all, and replaces an existing file. `offsets`
// has one entry more than there are documents. Throws E0333 when the arrays contradict each other,
// E0501/E0502 when they cannot be written.
void write_token_store(const std::filesystem::path& path, std::span<const int32_t> ids,
                       std::span<const uint8_t> loss_mask, std::span<const int64_t> offsets,
                       TokenStoreInfo info);

}  // namespace sutor
