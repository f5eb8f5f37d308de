// Token stores: what Python and C++ write reads back, and corrupt or foreign stores are refused.
#include "launch/data/token_store.h"

#include <gtest/gtest.h>

#include <functional>

#include "csrc/base/error.h"
#include "csrc/base/hdf5/h5.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::TempDir;

const std::vector<int32_t> kIds = {5, 6, 7, 8, 9, 10, 11, 300, 12};
const std::vector<uint8_t> kMask = {0, 0, 1, 1, 0, 0, 0, 1, 1};
const std::vector<int64_t> kOffsets = {0, 4, 6, 9};

std::filesystem::path write_sample(const TempDir& dir) {
  TokenStoreInfo info;
  info.source_name = "rows.jsonl";
  info.vocab_size = 512;
  info.options["loss_on"] = "assistant";
  const auto path = dir / "sample.tokens.h5";
  write_token_store(path, kIds, kMask, kOffsets, info);
  return path;
}

void expect_open_fails(ErrorCode code, const std::filesystem::path& path, const std::string& part) {
  expect_error(code, {part, path.filename().string()}, [&] { TokenStore store(path); });
}

void expect_sample(const TokenStore& store) {
  EXPECT_EQ(store.num_documents(), 3);
  EXPECT_EQ(store.num_tokens(), 9);
  EXPECT_EQ(store.num_supervised(), 4);
  const Document last = store.document(2);
  EXPECT_EQ(last.begin, 6);
  EXPECT_EQ(last.length, 3);
  const auto ids = store.ids(last.begin, last.length);
  EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()), (std::vector<int32_t>{11, 300, 12}));
  const auto mask = store.loss_mask(0, 4);
  EXPECT_EQ(std::vector<uint8_t>(mask.begin(), mask.end()), (std::vector<uint8_t>{0, 0, 1, 1}));
  EXPECT_EQ(store.info().max_id, 300);
  EXPECT_EQ(store.info().vocab_size, 512);
  EXPECT_EQ(store.info().options["loss_on"], "assistant");
}

TEST(TokenStoreTest, WhatIsWrittenReadsBack) {
  TempDir dir;
  expect_sample(TokenStore(write_sample(dir)));
}

TEST(TokenStoreTest, AStoreWrittenByH5pyReads) {
  const TokenStore store(SUTOR_TEST_DATA "/golden/token_store/tiny.tokens.h5");
  expect_sample(store);
  EXPECT_EQ(store.info().producer, "make_token_store.py");
  EXPECT_EQ(store.info().rows, 4);
  EXPECT_EQ(store.info().bos_id, 5);
  EXPECT_EQ(store.info().counts["dropped"], 1);
}

TEST(TokenStoreTest, TheDigestIsOfContentNotOfTheFile) {
  TempDir dir;
  const TokenStore ours(write_sample(dir));
  EXPECT_EQ(ours.digest(),
            TokenStore(SUTOR_TEST_DATA "/golden/token_store/tiny.tokens.h5").digest());
  std::vector<uint8_t> mask = kMask;
  mask[1] = 1;
  write_token_store(dir / "other.tokens.h5", kIds, mask, kOffsets, {});
  EXPECT_NE(TokenStore(dir / "other.tokens.h5").digest(), ours.digest());
}

TEST(TokenStoreTest, AnIdBeyondTheVocabularyIsNamedWithItsPlace) {
  TempDir dir;
  const TokenStore store(write_sample(dir));
  store.check_vocab(301);
  const std::string message =
      expect_error(ErrorCode::kBeyondVocabulary, [&] { store.check_vocab(300); });
  EXPECT_NE(message.find("document 2 has token id 300 at its position 1"), std::string::npos)
      << message;
}

TEST(TokenStoreTest, AStoreWithoutTargetsIsRefusedForTraining) {
  TempDir dir;
  write_token_store(dir / "x.tokens.h5", kIds, std::vector<uint8_t>(9, 0), kOffsets, {});
  const TokenStore store(dir / "x.tokens.h5");
  expect_error(ErrorCode::kNoData, [&] { store.check_supervised(); });
  TokenStore(write_sample(dir)).check_supervised();
}

TEST(TokenStoreTest, AnEmptyStoreIsLegal) {
  TempDir dir;
  write_token_store(dir / "x.tokens.h5", {}, {}, std::vector<int64_t>{0}, {});
  const TokenStore store(dir / "x.tokens.h5");
  EXPECT_EQ(store.num_documents(), 0);
  EXPECT_EQ(store.info().max_id, -1);
}

TEST(TokenStoreTest, ArraysThatContradictEachOtherAreNotWritten) {
  TempDir dir;
  const auto write = [&](std::vector<uint8_t> mask, std::vector<int64_t> offsets) {
    return expect_error(ErrorCode::kBadTokenStore,
                        [&] { write_token_store(dir / "x.h5", kIds, mask, offsets, {}); });
  };
  EXPECT_NE(write({0, 1}, kOffsets).find("/loss_mask has 2"), std::string::npos);
  EXPECT_NE(write(kMask, {0, 4}).find("from 0 to 4"), std::string::npos);
  EXPECT_NE(write(kMask, {}).find("empty"), std::string::npos);
  EXPECT_NE(write(kMask, {0, 4, 4, 9}).find("document 1"), std::string::npos);
  EXPECT_NE(write(kMask, {0, 4, 99, 9}).find("document 1"), std::string::npos);
  EXPECT_NE(write(kMask, {0, 2, 9}).find("first token"), std::string::npos);
  EXPECT_NE(write({0, 0, 2, 1, 0, 0, 0, 1, 1}, kOffsets).find("0 or 1"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(dir / "x.h5"));
}

TEST(TokenStoreTest, MissingForeignAndOtherVersionsAreNamed) {
  TempDir dir;
  expect_open_fails(ErrorCode::kUnreadableData, dir / "absent.tokens.h5", "does not exist");
  expect_open_fails(ErrorCode::kUnreadableData, dir.write("text.tokens.h5", "{}"), "HDF5");
  h5::write_file(dir / "scores.h5", [](h5::File& file) { file.set_text("/", "format", "scores"); });
  expect_open_fails(ErrorCode::kNotTokenStore, dir / "scores.h5", "sutor.token_store");
  h5::write_file(dir / "new.h5", [](h5::File& file) {
    file.set_text("/", "format", "sutor.token_store");
    file.set_int("/", "format_version", 2);
  });
  expect_open_fails(ErrorCode::kNotTokenStore, dir / "new.h5", "version 2");
}

TEST(TokenStoreTest, ATruncatedStoreIsRefused) {
  TempDir dir;
  write_sample(dir);
  const std::string bytes = dir.read("sample.tokens.h5");
  for (const size_t size : {size_t{0}, size_t{8}, bytes.size() / 2, bytes.size() - 1}) {
    const auto path = dir.write("cut.tokens.h5", std::string_view(bytes).substr(0, size));
    EXPECT_THROW(TokenStore store(path), Error);
  }
}

TEST(TokenStoreTest, FlippedBitsOfTheDataAreNoticed) {
  TempDir dir;
  const auto path = write_sample(dir);
  std::vector<h5::Dataset> parts;
  {
    const h5::File file = h5::File::open(path);
    for (const char* name : {"/ids", "/loss_mask", "/doc_offsets"}) {
      parts.push_back(file.dataset(name));
    }
  }
  const std::string good = dir.read("sample.tokens.h5");
  for (const h5::Dataset& part : parts) {
    for (int64_t bit = 0; bit < 8 * part.bytes; bit += 5) {
      std::string bad = good;
      bad[static_cast<size_t>(part.offset + bit / 8)] ^= static_cast<char>(1 << (bit % 8));
      const auto flipped = dir.write("bad.tokens.h5", bad);
      expect_error(ErrorCode::kBadTokenStore, [&] { TokenStore store(flipped); });
    }
  }
}

// The library reads some damaged heaps for ever.
TEST(TokenStoreTest, DamagedTextsOfAnOlderStoreAreRefusedOrReadButNeverReadForEver) {
  TempDir dir;
  const std::string good = dir.read(SUTOR_TEST_DATA "/golden/token_store/tiny.tokens.h5");
  const size_t heap = good.find("GCOL");
  ASSERT_NE(heap, std::string::npos);
  int64_t refused = 0;
  for (size_t at = heap; at < heap + 1024; ++at) {
    for (const int bits : {0x01, 0x80, 0xff}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ bits);
      try {
        const TokenStore store(dir.write("bad.tokens.h5", bad));
      } catch (const Error& error) {
        EXPECT_EQ(error.exit_code(), kExitData);
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100);
  std::string endless = good;
  endless[heap + 16 + 9] = '\x01';  // the first object longer than its heap
  expect_open_fails(ErrorCode::kBadTokenStore, dir.write("bad.tokens.h5", endless),
                    "Make it again");
}

}  // namespace
}  // namespace sutor
