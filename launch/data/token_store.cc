// Reading checks the whole store once, so that nothing later trains on corrupt tokens.
#include "launch/data/token_store.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/hdf5/h5.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

constexpr std::string_view kFormat = "sutor.token_store";
constexpr ErrorCode kNotReadable = ErrorCode::kUnreadableData;
constexpr ErrorCode kNotTokenStore = ErrorCode::kNotTokenStore;
constexpr ErrorCode kInconsistent = ErrorCode::kBadTokenStore;

int64_t count_ones(std::span<const uint8_t> mask) {
  return std::accumulate(mask.begin(), mask.end(), int64_t{0});
}

// Changing any single element, or swapping any two neighbours, changes the sum; numpy computes it
// in a line or two.
uint64_t checksum_of(std::span<const int32_t> ids, std::span<const uint8_t> mask,
                     std::span<const int64_t> offsets) {
  uint64_t sum = 0;
  for (size_t t = 0; t < ids.size(); ++t) {
    sum += (t + 1) * (2 * uint64_t{static_cast<uint32_t>(ids[t])} + mask[t] + 1);
  }
  for (size_t d = 0; d < offsets.size(); ++d) {
    sum += (ids.size() + d + 1) * static_cast<uint64_t>(offsets[d]);
  }
  return sum;
}

// -1 when there are no tokens. An id of 2^31 or more, which only a uint32 file can hold, keeps its
// value.
int64_t largest_id(std::span<const int32_t> ids) {
  int64_t largest = -1;
  for (const int32_t id : ids) largest = std::max(largest, int64_t{static_cast<uint32_t>(id)});
  return largest;
}

// Throws E0333 unless ids, mask and offsets describe documents of at least one token each.
void check_arrays(const std::string& where, std::span<const int32_t> ids,
                  std::span<const uint8_t> mask, std::span<const int64_t> offsets) {
  const auto tokens = static_cast<int64_t>(ids.size());
  if (mask.size() != ids.size()) {
    fail(kInconsistent, "{}: /ids has {} tokens but /loss_mask has {}", where, ids.size(),
         mask.size());
  }
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != tokens) {
    fail(kInconsistent, "{}: /doc_offsets must run from 0 to the {} tokens, but {}", where, tokens,
         offsets.empty() ? std::string("it is empty")
                         : fmt::format("it runs from {} to {}", offsets.front(), offsets.back()));
  }
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    if (offsets[d + 1] <= offsets[d]) {
      fail(kInconsistent, "{}: document {} must end after it begins, but begins at {}, ends at {}",
           where, d, offsets[d], offsets[d + 1]);
    }
    if (offsets[d + 1] > tokens) {
      fail(kInconsistent, "{}: document {} ends at token {}, but there are {}", where, d,
           offsets[d + 1], tokens);
    }
    if (mask[static_cast<size_t>(offsets[d])] != 0) {
      fail(kInconsistent,
           "{}: document {} has its first token in the loss, which nothing predicts. Set its "
           "loss_mask to 0.",
           where, d);
    }
  }
  for (size_t t = 0; t < mask.size(); ++t) {
    if (mask[t] > 1) {
      fail(kInconsistent, "{}: /loss_mask must be 0 or 1, but is {} at token {}", where, mask[t],
           t);
    }
  }
}

nlohmann::json parse_object(const h5::File& file, const std::string& name) {
  const std::string text = file.get_text("/", name);
  nlohmann::json value = parse_json(text).value;
  if (!value.is_object()) {
    file.fail_read(fmt::format("attribute `{}` must be a JSON object", name));
  }
  return value;
}

TokenStoreInfo read_info(const h5::File& file) {
  TokenStoreInfo info;
  info.producer = file.get_text("/", "producer");
  info.tokenizer_digest = file.get_text("/", "tokenizer_digest");
  info.template_digest = file.get_text("/", "template_digest");
  info.source_name = file.get_text("/", "source_name");
  info.source_digest = file.get_text("/", "source_digest");
  info.source_bytes = file.get_int("/", "source_bytes");
  info.rows = file.get_int("/", "rows");
  info.documents = file.get_int("/", "documents");
  info.tokens = file.get_int("/", "tokens");
  info.supervised_tokens = file.get_int("/", "supervised_tokens");
  info.vocab_size = file.get_int("/", "vocab_size");
  info.bos_id = file.get_int("/", "bos_id");
  info.eos_id = file.get_int("/", "eos_id");
  info.max_id = file.get_int("/", "max_id");
  info.options = parse_object(file, "options");
  info.counts = parse_object(file, "counts");
  if (file.has_attribute("/", "inputs")) info.inputs = parse_object(file, "inputs");
  return info;
}

void write_info(h5::File& file, const TokenStoreInfo& info, uint64_t checksum) {
  file.set_text("/", "format", kFormat);
  file.set_int("/", "format_version", kTokenStoreVersion);
  file.set_text("/", "producer", info.producer);
  file.set_text("/", "tokenizer_digest", info.tokenizer_digest);
  file.set_text("/", "template_digest", info.template_digest);
  file.set_text("/", "source_name", info.source_name);
  file.set_text("/", "source_digest", info.source_digest);
  file.set_int("/", "source_bytes", info.source_bytes);
  file.set_int("/", "rows", info.rows);
  file.set_int("/", "documents", info.documents);
  file.set_int("/", "tokens", info.tokens);
  file.set_int("/", "supervised_tokens", info.supervised_tokens);
  file.set_int("/", "vocab_size", info.vocab_size);
  file.set_int("/", "bos_id", info.bos_id);
  file.set_int("/", "eos_id", info.eos_id);
  file.set_int("/", "max_id", info.max_id);
  file.set_text("/", "options", info.options.dump());
  file.set_text("/", "counts", info.counts.dump());
  if (!info.inputs.is_null()) file.set_text("/", "inputs", info.inputs.dump());
  file.set_uint("/", "checksum", checksum);
}

void expect_equal(const std::string& where, std::string_view what, int64_t recorded,
                  int64_t found) {
  if (recorded == found) return;
  fail(kInconsistent,
       "{}: `{}` is recorded as {} but the data have {}. The file is corrupt or was changed: "
       "prepare it again.",
       where, what, recorded, found);
}

}  // namespace

struct TokenStore::Data {
  std::filesystem::path path;
  TokenStoreInfo info;
  std::vector<int64_t> offsets;
  MappedFile map;
  std::vector<int32_t> copied_ids;  // when they are not aligned in the file
  std::span<const int32_t> ids;
  std::span<const uint8_t> mask;

  explicit Data(const std::filesystem::path& from) : path(from), map(from) {}
};

TokenStore::TokenStore(const std::filesystem::path& path) {
  const h5::File file = h5::File::open(path, kNotReadable, kInconsistent);
  const std::string where = path.string();
  if (!file.has_attribute("/", "format") || file.get_text("/", "format") != kFormat) {
    fail(kNotTokenStore,
         "{} is no token store: its attribute `format` should be `{}`. `sutor prepare` writes "
         "token stores.",
         where, kFormat);
  }
  if (const int64_t version = file.get_int("/", "format_version"); version != kTokenStoreVersion) {
    fail(kNotTokenStore,
         "{} has format version {}; this program reads version {}. Prepare the data again.", where,
         version, kTokenStoreVersion);
  }
  try {
    data_ = std::make_unique<Data>(path);
    data_->info = read_info(file);
    data_->offsets = file.read<int64_t>("/doc_offsets");
    const h5::Dataset ids = file.dataset("/ids");
    const h5::Dataset mask = file.dataset("/loss_mask");
    file.check_type(ids, {"I32", "U32"});
    file.check_type(mask, {"U8"});
    const std::byte* base = data_->map.bytes().data();
    data_->mask = {reinterpret_cast<const uint8_t*>(base + mask.offset),
                   static_cast<size_t>(mask.bytes)};
    const size_t tokens = static_cast<size_t>(ids.bytes) / sizeof(int32_t);
    if (ids.offset % alignof(int32_t) == 0) {
      data_->ids = {reinterpret_cast<const int32_t*>(base + ids.offset), tokens};
    } else {
      data_->copied_ids.resize(tokens);
      file.read(ids, std::as_writable_bytes(std::span(data_->copied_ids)));
      data_->ids = data_->copied_ids;
    }
  } catch (const Error& error) {
    // The file opened, so the error is in its content.
    if (error.code() == kNotReadable) throw Error(kInconsistent, error.what());
    throw;
  }
  check_arrays(where, data_->ids, data_->mask, data_->offsets);
  const TokenStoreInfo& info = data_->info;
  expect_equal(where, "tokens", info.tokens, num_tokens());
  expect_equal(where, "documents", info.documents, num_documents());
  expect_equal(where, "supervised_tokens", info.supervised_tokens, count_ones(data_->mask));
  expect_equal(where, "max_id", info.max_id, largest_id(data_->ids));
  if (file.get_uint("/", "checksum") != checksum_of(data_->ids, data_->mask, data_->offsets)) {
    fail(kInconsistent,
         "{}: its checksum does not match its tokens. The file is corrupt or was changed: prepare "
         "it again.",
         where);
  }
}

TokenStore::~TokenStore() = default;
TokenStore::TokenStore(TokenStore&&) noexcept = default;
TokenStore& TokenStore::operator=(TokenStore&&) noexcept = default;

const std::filesystem::path& TokenStore::path() const { return data_->path; }
const TokenStoreInfo& TokenStore::info() const { return data_->info; }
int64_t TokenStore::num_documents() const {
  return static_cast<int64_t>(data_->offsets.size()) - 1;
}
int64_t TokenStore::num_tokens() const { return static_cast<int64_t>(data_->ids.size()); }
int64_t TokenStore::num_supervised() const { return data_->info.supervised_tokens; }

Document TokenStore::document(int64_t index) const {
  SUTOR_ASSERT(index >= 0 && index < num_documents());
  const auto d = static_cast<size_t>(index);
  return {data_->offsets[d], data_->offsets[d + 1] - data_->offsets[d]};
}

std::span<const int32_t> TokenStore::ids(int64_t begin, int64_t length) const {
  SUTOR_ASSERT(begin >= 0 && length >= 0 && begin <= num_tokens() - length);
  return data_->ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(length));
}

std::span<const uint8_t> TokenStore::loss_mask(int64_t begin, int64_t length) const {
  SUTOR_ASSERT(begin >= 0 && length >= 0 && begin <= num_tokens() - length);
  return data_->mask.subspan(static_cast<size_t>(begin), static_cast<size_t>(length));
}

void TokenStore::check_vocab(int64_t vocab_size) const {
  // An id of 2^31 or more reads as a negative number.
  const auto beyond = [&](int32_t id) { return id < 0 || id >= vocab_size; };
  const auto found = std::find_if(data_->ids.begin(), data_->ids.end(), beyond);
  if (found == data_->ids.end()) return;
  const int64_t token = found - data_->ids.begin();
  const auto after = std::upper_bound(data_->offsets.begin(), data_->offsets.end(), token);
  const int64_t document = after - data_->offsets.begin() - 1;
  fail(ErrorCode::kBeyondVocabulary,
       "{}: document {} has token id {} at its position {}, but the model's vocabulary has {} "
       "ids. The data were prepared with another tokenizer: prepare them with the model's own.",
       data_->path.string(), document, static_cast<uint32_t>(*found),
       token - data_->offsets[static_cast<size_t>(document)], vocab_size);
}

void TokenStore::check_supervised() const {
  if (num_supervised() > 0) return;
  fail(ErrorCode::kNoData,
       "{}: none of its {} tokens in {} documents is in the loss (loss_on: {}). Check "
       "`data.loss_on` and the roles of the rows.",
       data_->path.string(), num_tokens(), num_documents(),
       data_->info.options.value("loss_on", nlohmann::json("not recorded")).dump());
}

Digest TokenStore::digest() const {
  Hasher hasher;
  hasher.update_int(num_tokens());
  hasher.update_int(num_documents());
  hasher.update(std::as_bytes(data_->ids));
  hasher.update(std::as_bytes(data_->mask));
  hasher.update(std::as_bytes(std::span(data_->offsets)));
  return hasher.digest();
}

void write_token_store(const std::filesystem::path& path, std::span<const int32_t> ids,
                       std::span<const uint8_t> loss_mask, std::span<const int64_t> offsets,
                       TokenStoreInfo info) {
  check_arrays(path.string(), ids, loss_mask, offsets);
  info.tokens = static_cast<int64_t>(ids.size());
  info.documents = static_cast<int64_t>(offsets.size()) - 1;
  info.supervised_tokens = count_ones(loss_mask);
  info.max_id = largest_id(ids);
  h5::write_file(path, [&](h5::File& file) {
    file.write("/ids", "I32", {info.tokens}, std::as_bytes(ids));
    file.write("/loss_mask", "U8", {info.tokens}, std::as_bytes(loss_mask));
    file.write("/doc_offsets", "I64", {info.documents + 1}, std::as_bytes(offsets));
    write_info(file, info, checksum_of(ids, loss_mask, offsets));
  });
}

}  // namespace sutor
