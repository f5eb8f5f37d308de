// The reports of a monitor about the ranks of a job, made from heartbeats of their journals.
#include "csrc/comm/watchdog/job_view.h"

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "csrc/base/process/progress.h"

namespace sutor {
namespace {

constexpr auto kCollective = OperationKind::kCollective;

// Four ranks in the world and in two groups "ep" of neighbours; their journals feed a view.
class Job : public ::testing::Test {
 protected:
  Job() : view_(processes(), 0) {
    for (int r = 0; r < 4; ++r) {
      journals_.push_back(std::make_unique<Journal>(r));
      journals_.back()->add_group("world", {0, 1, 2, 3});
      journals_.back()->add_group("ep", r < 2 ? std::vector{0, 1} : std::vector{2, 3});
    }
    writers_.resize(4);
  }

  static std::vector<ProcessIdentity> processes() {
    std::vector<ProcessIdentity> result;
    for (int r = 0; r < 4; ++r) {
      result.push_back({"node" + std::to_string(r / 2), "elsewhere", "elsewhere", 100 + r, 1});
    }
    return result;
  }

  // The rank begins an operation of group 0 (world) or 1 (ep) and stays in it.
  void enter(int r, int group, const char* name, OperationKind kind = kCollective, int peer = -1,
             double now = 0) {
    open_.push_back(
        std::make_unique<Journal::Operation>(*journals_.at(r), group, kind, name, peer));
    heartbeat(r);
    auto& newest = view_.rank(r).newest;
    if (newest && !newest->done && newest->name == std::string(name)) newest->begun = now;
  }
  void pass(int r, int group, const char* name) {
    { const Journal::Operation operation(*journals_.at(r), group, kCollective, name); }
    heartbeat(r);
  }
  void heartbeat(int r, double now = 0) {
    for (const std::string& line : writers_.at(r).lines(*journals_.at(r))) {
      view_.take(r, nlohmann::json::parse(line), now);
    }
  }

  std::vector<std::unique_ptr<Journal>> journals_;
  std::vector<HeartbeatWriter> writers_;
  std::vector<std::unique_ptr<Journal::Operation>> open_;
  JobView view_;
};

TEST_F(Job, ADeadRankIsNamedWithItsProcessAndLastOperation) {
  pass(3, 0, "share of cores");
  enter(3, 1, "dispatch rows");
  view_.lose(3, 1.0);
  const std::string text = view_.headline(1.0);
  EXPECT_NE(text.find("error[E0605]: rank 3 died (host node1, pid 103)"), std::string::npos)
      << text;
  EXPECT_NE(text.find("in `dispatch rows` #1 of group ep (ranks 2, 3)"), std::string::npos) << text;
  EXPECT_EQ(view_.headline(1.0).find("rank 2"), std::string::npos);
}

TEST_F(Job, DeathsAreNamedInTheirOrderAndLaterOnesAfterwards) {
  view_.lose(2, 1.0);
  view_.lose(0, 0.5);
  const std::string text = view_.headline(1.0);
  EXPECT_LT(text.find("rank 0 died"), text.find("rank 2 died"));
  view_.lose(1, 2.0);
  EXPECT_EQ(view_.waiting(2.0).find("  rank 1 died too (host node0, pid 101)"), 0u);
}

TEST_F(Job, WhoWaitsForWhom) {
  for (const int r : {0, 1}) enter(r, 0, "reduce gradients");
  enter(2, 1, "combine rows");
  pass(3, 0, "share of cores");
  view_.lose(3, 1.0);
  const std::string text = view_.waiting(1.0);
  EXPECT_NE(
      text.find("ranks 0, 1 wait in `reduce gradients` #1 of group world (ranks 0-3) for ranks "
                "2, 3"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("rank 2 waits in `combine rows` #1 of group ep (ranks 2, 3) for rank 3"),
            std::string::npos)
      << text;
}

TEST_F(Job, AReceiverWaitsForItsSender) {
  enter(1, 0, "stage input", OperationKind::kReceive, 0);
  const std::string text = view_.waiting(1.0);
  EXPECT_NE(text.find("rank 1 waits in `stage input` #1 from rank 0 of group world (ranks 0-3) for "
                      "rank 0"),
            std::string::npos)
      << text;
}

TEST_F(Job, ASilentRankIsNamedWithItsSilence) {
  pass(2, 0, "share of cores");
  view_.rank(2).state = RankView::State::kSilent;
  const std::string text = view_.headline(20.0);
  EXPECT_NE(text.find("error[E0606]: rank 2 (host node1, pid 102) sent no heartbeat for 20 s"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("after `share of cores` #1"), std::string::npos) << text;
}

TEST_F(Job, ALongWaitIsReportedOnceItIsTooLong) {
  for (const int r : {0, 1, 3}) enter(r, 0, "reduce gradients");
  EXPECT_EQ(view_.slow(100, 50.0), "");
  const std::string text = view_.slow(100, 150.0);
  EXPECT_NE(text.find("error[E0607]: rank 0 has been waiting for 150 s in `reduce gradients`"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("for rank 2"), std::string::npos) << text;
}

TEST_F(Job, AWaitBeginsAnewWhileTheRankThatItIsForComesForward) {
  for (const int r : {0, 1, 3}) enter(r, 0, "prepare");
  note_progress();
  heartbeat(2, 140.0);
  EXPECT_EQ(view_.slow(100, 150.0), "") << "rank 2 tokenizes";
  heartbeat(2, 200.0);  // alive, but no further
  EXPECT_NE(view_.slow(100, 250.0).find("error[E0607]: rank 0 has been waiting"),
            std::string::npos);
  note_progress();
  heartbeat(1, 250.0);  // who waits counts for nothing
  EXPECT_NE(view_.slow(100, 250.0), "");
}

TEST_F(Job, AWaitThatJustEndedIsNotTooLong) {
  for (const int r : {0, 1, 3}) enter(r, 0, "prepare");
  note_progress();
  heartbeat(2, 140.0);
  enter(2, 0, "prepare", kCollective, -1,
        141.0);  // known before the others have told that they are through
  EXPECT_EQ(view_.slow(100, 150.0), "");
  EXPECT_NE(view_.slow(100, 250.0).find("error[E0607]: rank 0 has been waiting"),
            std::string::npos);
}

TEST_F(Job, DifferentOperationsUnderOneNumberAreFoundAtOnce) {
  enter(0, 0, "reduce gradients");
  enter(1, 0, "finish");
  const std::string text = view_.disorder(60, 0.0);
  EXPECT_NE(text.find("error[E0608]"), std::string::npos);
  EXPECT_NE(text.find("`reduce gradients` #1"), std::string::npos) << text;
  EXPECT_NE(text.find("`finish` #1"), std::string::npos) << text;
}

TEST_F(Job, RanksThatAllWaitForOneAnotherAreFoundAfterAWhile) {
  enter(0, 0, "reduce gradients"), enter(1, 1, "combine rows");
  enter(2, 0, "reduce gradients"), enter(3, 1, "combine rows");
  EXPECT_EQ(view_.disorder(60, 30.0), "");
  EXPECT_NE(view_.disorder(60, 61.0).find("E0608"), std::string::npos);
}

TEST_F(Job, ALongTransferIsNoDeadlock) {
  for (int r = 0; r < 4; ++r) enter(r, 0, "reduce gradients");
  for (int r = 0; r < 4; ++r) heartbeat(r);
  EXPECT_EQ(view_.disorder(60, 100.0), "");
}

TEST_F(Job, AnExtendedDeadlineCountsAsHeard) {
  view_.extend_deadlines(10);
  EXPECT_EQ(view_.rank(0).heard, 10);
}

TEST(RanksText, ShortensRuns) {
  EXPECT_EQ(ranks_text(std::vector{0, 1, 2, 3, 7, 9, 10}), "0-3, 7, 9, 10");
  EXPECT_EQ(ranks_text(std::vector{5}), "5");
}

TEST_F(Job, ARankWaitsInTheOldestOperationThatItsDeviceHasNotFinished) {
  std::vector<int64_t> on_device;
  for (const char* name : {"dispatch rows", "combine rows", "reduce gradients"}) {
    Journal::Operation operation(*journals_.at(2), 1, kCollective, name);
    on_device.push_back(operation.hand_over());
  }
  journals_.at(2)->end(on_device.at(0));
  heartbeat(2);
  pass(3, 1, "dispatch rows");
  view_.lose(3, 1.0);
  EXPECT_NE(view_.waiting(1.0).find("rank 2 waits in `combine rows` #2 of group ep (ranks 2, 3) "
                                    "for rank 3"),
            std::string::npos)
      << view_.waiting(1.0);
  for (const int64_t operation : on_device) journals_.at(2)->end(operation);
  heartbeat(2);
  EXPECT_NE(view_.waiting(1.0).find("rank 2: computing for"), std::string::npos)
      << view_.waiting(1.0);
}

TEST_F(Job, AHostInAnOperationWaitsThereWhateverItsDeviceDoes) {
  {
    Journal::Operation operation(*journals_.at(0), 1, kCollective, "dispatch rows");
    operation.hand_over();
  }
  enter(0, 0, "save");
  EXPECT_NE(view_.waiting(1.0).find("rank 0 waits in `save` #1 of group world"), std::string::npos)
      << view_.waiting(1.0);
}

}  // namespace
}  // namespace sutor
