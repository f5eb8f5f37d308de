// Tasks that share out work themselves: each once, on a bounded number of threads.
#include "csrc/base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>

#include "csrc/base/error.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

// How many do something at a time, and the most that did.
class Crowd {
 public:
  void enter() {
    const int now = ++inside_;
    for (int most = most_; now > most && !most_.compare_exchange_weak(most, now);) {
    }
  }
  void leave() { --inside_; }
  int most() const { return most_; }

 private:
  std::atomic<int> inside_ = 0, most_ = 0;
};

TEST(ThreadTeam, NestedTasksRunOnceEachOnNoMoreThanItsThreads) {
  constexpr int kThreads = 4, kAtOnce = 3, kOuter = 20, kInner = 30;
  ThreadTeam team(kThreads);
  std::vector<std::atomic<int>> done(kOuter * kInner);
  Crowd outer, inner;
  std::mutex mutex;
  std::set<std::thread::id> threads;
  team.run(kAtOnce, kOuter, [&](int64_t o) {
    outer.enter();
    team.run(0, kInner, [&](int64_t i) {
      inner.enter();
      ++done[static_cast<size_t>(o * kInner + i)];
      {
        const std::lock_guard lock(mutex);
        threads.insert(std::this_thread::get_id());
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      inner.leave();
    });
    outer.leave();
  });
  for (const auto& count : done) EXPECT_EQ(count, 1);
  EXPECT_LE(threads.size(), size_t{kThreads});
  EXPECT_LE(inner.most(), kThreads);
  EXPECT_GT(inner.most(), 1);
  EXPECT_LE(outer.most(), kAtOnce);
}

TEST(ThreadTeam, AnErrorOfANestedTaskEndsBothLevels) {
  ThreadTeam team(3);
  std::atomic<int> begun = 0;
  expect_error(ErrorCode::kBrokenFile, {"inner"}, [&] {
    team.run(2, 100, [&](int64_t) {
      ++begun;
      team.run(0, 5, [](int64_t i) {
        if (i == 3) fail(ErrorCode::kBrokenFile, "inner");
      });
    });
  });
  EXPECT_LT(begun, 100);
  int after = 0;
  team.run(1, 3, [&](int64_t) { ++after; });  // it goes on working
  EXPECT_EQ(after, 3);
}

}  // namespace
}  // namespace sutor
