// SHA-256 as its standard and hashlib compute it.
#include "launch/data/rows/sha256.h"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

std::string sha256(std::string_view text, size_t part) {
  Sha256 hash;
  const auto bytes = std::as_bytes(std::span(text));
  for (size_t at = 0; at < bytes.size(); at += part) {
    hash.update(bytes.subspan(at, std::min(part, bytes.size() - at)));
  }
  return hash.text();
}

TEST(Sha256Test, GivesTheDigestsOfTheStandardHoweverTheBytesCome) {
  const std::vector<std::pair<std::string, std::string>> known = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1'000'000, 'a'),
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"}};
  for (const auto& [text, digest] : known) {
    for (const size_t part : {size_t{1}, size_t{55}, size_t{64}, size_t{65}, size_t{4096}}) {
      EXPECT_EQ(sha256(text, part), "sha256:" + digest) << text.size() << " by " << part;
    }
  }
}

TEST(Sha256Test, OfAFileIsThatOfItsBytes) {
  testing::TempDir dir;
  const std::string content = std::string((1 << 20) + 7, 'x');
  EXPECT_EQ(sha256_of_file(dir.write("large", content)), sha256(content, 64));
  EXPECT_EQ(sha256_of_file(dir.write("empty", "")), sha256("", 1));
}

}  // namespace
}  // namespace sutor
