// The journal of operations: numbers, digests, and the check that the ranks agree on their order.
#include "csrc/comm/journal.h"

#include <gtest/gtest.h>

#include "journal_order.h"
#include "mpi_world.h"

namespace sutor {
namespace {

std::vector<int> ranks_of_parity(const Comm& world, int parity) {
  std::vector<int> ranks;
  for (int r = parity; r < world.size(); r += 2) ranks.push_back(r);
  return ranks;
}

TEST(Journal, NumbersCountWithinTheGroup) {
  Comm& world = test_world();
  const auto half = world.subgroup(ranks_of_parity(world, world.rank() % 2), "numbers");
  const Journal& journal = *world.journal();
  world.barrier("one");
  const int64_t before = journal.newest()->number;
  if (half->size() > 1) {
    half->barrier("inside");
    EXPECT_EQ(journal.newest()->number, 1);
    EXPECT_EQ(journal.group(journal.newest()->group).name, "numbers");
    EXPECT_EQ(journal.group(journal.newest()->group).ranks,
              ranks_of_parity(world, world.rank() % 2));
  }
  world.barrier("two");
  EXPECT_EQ(journal.newest()->number, before + 1);
  EXPECT_STREQ(journal.newest()->name, "two");
  EXPECT_TRUE(journal.newest()->done);
}

TEST(Journal, DigestsAreEqualOnAllRanksAndTellOrdersApart) {
  Comm& world = test_world();
  world.barrier("one");
  const uint64_t mine = world.order_digest();
  std::vector<int64_t> all(static_cast<size_t>(world.size()), 0);
  all[static_cast<size_t>(world.rank())] = static_cast<int64_t>(mine);
  world.all_reduce(std::span(all), ReduceOp::kSum, "digests");
  for (const int64_t digest : all) EXPECT_EQ(digest, static_cast<int64_t>(mine));

  Journal one(0), other(0);
  for (Journal* journal : {&one, &other}) journal->add_group("world", {0, 1});
  const auto issue = [](Journal& journal, const char* name) {
    const Journal::Operation operation(journal, 0, OperationKind::kCollective, name);
  };
  issue(one, "ab"), issue(one, "c");
  issue(other, "a"), issue(other, "bc");
  EXPECT_NE(one.digest(0), other.digest(0));
}

TEST(Journal, TheRingKeepsTheNewest) {
  Journal journal(0);
  journal.add_group("world", {0, 1});
  for (size_t i = 0; i < Journal::kRing + 10; ++i) {
    const Journal::Operation operation(journal, 0, OperationKind::kCollective, "x");
  }
  const auto ring = journal.ring();
  ASSERT_EQ(ring.size(), Journal::kRing);
  EXPECT_EQ(ring.front().number, 11);
  EXPECT_EQ(ring.back().number, static_cast<int64_t>(Journal::kRing + 10));
}

TEST(Journal, AnOperationThatThrowsStaysOpen) {
  Journal journal(0);
  journal.add_group("world", {0, 1});
  try {
    const Journal::Operation operation(journal, 0, OperationKind::kCollective, "x");
    throw std::runtime_error("no");
  } catch (const std::runtime_error&) {
  }
  EXPECT_FALSE(journal.newest()->done);
}

TEST(Journal, LogsOfAllRanksProveOneOrder) {
  Comm& world = test_world();
  const_cast<Journal*>(world.journal())->keep_all();
  const auto half = world.subgroup(ranks_of_parity(world, world.rank() % 2), "half");
  const int next = (world.rank() + 1) % world.size();
  const int previous = (world.rank() + world.size() - 1) % world.size();
  for (int step = 0; step < 3; ++step) {
    half->barrier("half step");
    const auto data = std::make_shared<std::vector<int>>(10, step);
    world.send(std::as_bytes(std::span(*data)), next, data, "to the next");
    std::vector<int> from(10);
    world.receive(std::as_writable_bytes(std::span(from)), previous, "to the next");
    world.barrier("step");
  }
  const auto logs = world.all_gather_text(world.journal()->text(), "journals");
  EXPECT_GT(logs[0].size(), 0u);
  EXPECT_EQ(order_problem(logs), "");
}

TEST(Journal, AnotherOrderIsFound) {
  // Two ranks, two groups of both, entered in different orders.
  std::vector<std::string> logs;
  for (int rank = 0; rank < 2; ++rank) {
    Journal journal(rank);
    journal.keep_all();
    const int a = journal.add_group("a", {0, 1}), b = journal.add_group("b", {0, 1});
    for (const int group : rank == 0 ? std::vector{a, b} : std::vector{b, a}) {
      const Journal::Operation operation(journal, group, OperationKind::kCollective, "x");
    }
    logs.push_back(journal.text());
  }
  EXPECT_NE(order_problem(logs).find("operation 1 that ranks 0 and 1 share"), std::string::npos)
      << order_problem(logs);
}

}  // namespace
}  // namespace sutor
