// Copies of a training's state: what is copied, and that the memory is kept.
#include "checkpoint/partial/snapshot.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace sutor {
namespace {

TEST(SnapshotTest, EveryByteIsCopiedWhateverTheSizes) {
  std::vector<std::vector<std::byte>> from;
  SnapshotMemory memory;
  int64_t total = 0;
  for (const int64_t bytes : {0, 1, 63, 4096, (4 << 20) + 1, (9 << 20) - 7}) {
    from.emplace_back(static_cast<size_t>(bytes));
    for (size_t i = 0; i < from.back().size(); ++i) {
      from.back()[i] = static_cast<std::byte>((i * 31 + i / 4096) % 251);
    }
    total += bytes;
  }
  ASSERT_TRUE(memory.reserve(total));
  std::vector<MemoryCopy> copies;
  std::byte* at = memory.data();
  for (const auto& bytes : from) {
    copies.push_back({bytes.data(), at, static_cast<int64_t>(bytes.size())});
    at += bytes.size();
  }
  copy_memory(copies);
  at = memory.data();
  for (const auto& bytes : from) {
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), at)) << bytes.size();
    at += bytes.size();
  }
}

TEST(SnapshotTest, MemoryIsKeptWhileItIsEnough) {
  SnapshotMemory memory;
  ASSERT_TRUE(memory.reserve(1 << 20));
  const std::byte* first = memory.data();
  ASSERT_TRUE(memory.reserve(1 << 10));
  EXPECT_EQ(memory.data(), first);
  EXPECT_EQ(memory.bytes(), 1 << 20);
  EXPECT_FALSE(memory.reserve(int64_t{1} << 60));
  EXPECT_EQ(memory.bytes(), 0);
}

}  // namespace
}  // namespace sutor
