// The 1F1B schedule over all small pipelines, and that broken ones are refused.
#include "parallel_state/layout/pipeline_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/message_of.h"

namespace sutor {
namespace {

using testing::message_of;
using Kind = PipelineActionKind;

template <typename Function>
void for_all_schedules(Function&& function) {
  for (int stages = 1; stages <= 8; ++stages) {
    for (int micro_batches = 0; micro_batches <= 16; ++micro_batches) {
      for (int lowest = 0; lowest <= stages; ++lowest) {
        function(make_pipeline_schedule(stages, micro_batches, lowest));
      }
    }
  }
}

std::string title(const PipelineSchedule& s) {
  return fmt::format("{} stages, {} micro-batches, lowest stage {}", s.stages(), s.micro_batches,
                     s.lowest_stage);
}

int count(const PipelineSchedule& schedule, int stage, Kind kind) {
  const auto& actions = schedule.actions[stage];
  return static_cast<int>(std::count_if(actions.begin(), actions.end(),
                                        [&](const PipelineAction& a) { return a.kind == kind; }));
}

bool deadlocks(const PipelineSchedule& schedule, PipelineSends sends) {
  try {
    check_pipeline_schedule(schedule, sends);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("deadlock"), std::string::npos) << error.what();
    return true;
  }
  return false;
}

// When every stage is done and how long it worked, if forwards and backwards take these times and
// messages none.
struct Times {
  int makespan = 0;
  std::vector<int> busy;  // [stages]
};

Times play(const PipelineSchedule& schedule, int forward, int backward, bool awaits = true) {
  const int stages = schedule.stages(), n = schedule.micro_batches;
  constexpr int kNever = 1 << 30;
  const std::vector<std::vector<int>> never(stages, std::vector<int>(n, kNever));
  std::vector<std::vector<int>> sent_forward = never, sent_backward = never, received = never;
  std::vector<int> now(stages, 0);
  std::vector<size_t> next(stages, 0);
  Times times{0, std::vector<int>(stages, 0)};
  for (bool moved = true; moved;) {
    moved = false;
    for (int s = 0; s < stages; ++s) {
      for (; next[s] < schedule.actions[s].size(); ++next[s], moved = true) {
        const auto [kind, m] = schedule.actions[s][next[s]];
        int ready = 0;
        if (kind == Kind::kReceiveForward) ready = sent_forward[s - 1][m];
        if (kind == Kind::kReceiveBackward) ready = sent_backward[s + 1][m];
        if (kind == Kind::kAwaitSentForward && awaits) ready = received[s + 1][m];
        if (ready == kNever) break;
        now[s] = std::max(now[s], ready);
        const int work = kind == Kind::kForward ? forward : kind == Kind::kBackward ? backward : 0;
        now[s] += work;
        times.busy[s] += work;
        if (kind == Kind::kReceiveForward) received[s][m] = now[s];
        if (kind == Kind::kSendForward) sent_forward[s][m] = now[s];
        if (kind == Kind::kSendBackward) sent_backward[s][m] = now[s];
      }
    }
  }
  times.makespan = *std::max_element(now.begin(), now.end());
  return times;
}

TEST(PipelineSchedule, AllSmallOnesRunToTheirEndWithinTheBoundOfMemory) {
  for_all_schedules([](const PipelineSchedule& schedule) {
    ASSERT_NO_THROW(check_pipeline_schedule(schedule)) << title(schedule);
    for (int s = 0; s < schedule.stages(); ++s) {
      const int expected =
          s < schedule.lowest_stage ? 0 : std::min(schedule.stages() - s, schedule.micro_batches);
      ASSERT_EQ(schedule.max_in_flight(s), expected) << title(schedule) << ", stage " << s;
    }
  });
}

TEST(PipelineSchedule, TwoStagesByHand) {
  using enum PipelineActionKind;
  const PipelineSchedule schedule = make_pipeline_schedule(2, 2, 0);
  const std::vector<PipelineAction> first = {
      {kForward, 0},         {kSendForward, 0}, {kForward, 1},         {kSendForward, 1},
      {kReceiveBackward, 0}, {kBackward, 0},    {kReceiveBackward, 1}, {kBackward, 1}};
  const std::vector<PipelineAction> last = {
      {kReceiveForward, 0}, {kForward, 0}, {kBackward, 0}, {kSendBackward, 0},
      {kReceiveForward, 1}, {kForward, 1}, {kBackward, 1}, {kSendBackward, 1}};
  EXPECT_EQ(schedule.actions[0], first);
  EXPECT_EQ(schedule.actions[1], last);
}

TEST(PipelineSchedule, WithoutMicroBatchesItIsEmpty) {
  for (const auto& actions : make_pipeline_schedule(4, 0, 1).actions) EXPECT_TRUE(actions.empty());
}

TEST(PipelineSchedule, P06_StagesBelowTheLowestTrainedOneOnlyRunForward) {
  for_all_schedules([](const PipelineSchedule& schedule) {
    for (int s = 0; s < schedule.stages(); ++s) {
      const int all = schedule.micro_batches;
      const bool trains = s >= schedule.lowest_stage, last = s + 1 == schedule.stages();
      ASSERT_EQ(count(schedule, s, Kind::kForward), all);
      ASSERT_EQ(count(schedule, s, Kind::kBackward), trains ? all : 0);
      ASSERT_EQ(count(schedule, s, Kind::kReceiveBackward), trains && !last ? all : 0);
      ASSERT_EQ(count(schedule, s, Kind::kSendBackward), s > schedule.lowest_stage ? all : 0);
      ASSERT_EQ(count(schedule, s, Kind::kReceiveForward), s > 0 ? all : 0);
      ASSERT_EQ(count(schedule, s, Kind::kSendForward), last ? 0 : all);
      if (trains) {
        ASSERT_EQ(count(schedule, s, Kind::kAwaitSentForward), 0);
      }
    }
  });
}

TEST(PipelineSchedule, TheBubbleIsThatOf1F1B) {
  for (int p = 1; p <= 8; ++p) {
    for (int m = 1; m <= 16; ++m) {
      const Times times = play(make_pipeline_schedule(p, m, 0), 1, 1);
      ASSERT_EQ(times.makespan, 2 * (m + p - 1)) << p << " stages, " << m << " micro-batches";
      for (const int busy : times.busy) ASSERT_EQ(times.makespan - busy, 2 * (p - 1));
      // A backward of twice the forward changes the unit, not the shape.
      ASSERT_EQ(play(make_pipeline_schedule(p, m, 0), 1, 2).makespan, 3 * (m + p - 1));
    }
  }
}

TEST(PipelineSchedule, BoundingStagesThatRunAheadDelaysNobody) {
  for_all_schedules([](const PipelineSchedule& schedule) {
    for (const int backward : {1, 2, 3}) {
      const int bounded = play(schedule, 1, backward).makespan;
      ASSERT_EQ(bounded, play(schedule, 1, backward, /*awaits=*/false).makespan) << title(schedule);
      // Frozen stages shorten a step, never lengthen it.
      const PipelineSchedule all =
          make_pipeline_schedule(schedule.stages(), schedule.micro_batches, 0);
      ASSERT_LE(bounded, play(all, 1, backward).makespan) << title(schedule);
    }
  });
}

TEST(PipelineSchedule, NeedsAsynchronousSendsWhereNeighboursTrain) {
  for_all_schedules([](const PipelineSchedule& schedule) {
    const int trained = schedule.stages() - schedule.lowest_stage;
    ASSERT_EQ(deadlocks(schedule, PipelineSends::kRendezvous),
              trained >= 2 && schedule.micro_batches >= 2)
        << title(schedule);
  });
}

// The schedule of 3 stages and 4 micro-batches after `spoil` has changed the actions of a stage.
template <typename Spoil>
std::string refusal(int stage, int lowest, Spoil&& spoil) {
  PipelineSchedule schedule = make_pipeline_schedule(3, 4, lowest);
  spoil(schedule.actions[stage]);
  return message_of([&] { check_pipeline_schedule(schedule); }, ErrorCode::kBadSchedule);
}

void swap_actions(std::vector<PipelineAction>& actions, PipelineAction a, PipelineAction b) {
  const auto first = std::find(actions.begin(), actions.end(), a);
  const auto second = std::find(actions.begin(), actions.end(), b);
  ASSERT_TRUE(first != actions.end() && second != actions.end());
  std::iter_swap(first, second);
}

using Actions = std::vector<PipelineAction>;

TEST(CheckPipelineSchedule, AMissingSendIsADeadlockOfTheReceiver) {
  const std::string text = refusal(0, 0, [](Actions& a) {
    std::erase(a, PipelineAction{Kind::kSendForward, 3});
  });
  EXPECT_NE(text.find("deadlock"), std::string::npos) << text;
  EXPECT_NE(text.find("stage 0, receive backward of micro-batch 2"), std::string::npos) << text;
}

TEST(CheckPipelineSchedule, AMessageThatNobodyReceivesIsRefused) {
  const std::string text = refusal(2, 0, [](Actions& a) {
    std::erase_if(a, [](const PipelineAction& action) { return action.micro_batch == 3; });
  });
  EXPECT_NE(text.find("deadlock"), std::string::npos) << text;
  const std::string forward = refusal(2, 3, [](Actions& a) {
    std::erase_if(a, [](const PipelineAction& action) { return action.micro_batch == 3; });
  });
  EXPECT_NE(forward.find("stage 2, receive forward of micro-batch 3: 3 of 4"), std::string::npos)
      << forward;
}

TEST(CheckPipelineSchedule, OrderIsCheckedOfMessagesAndOfWork) {
  const std::string sends = refusal(0, 0, [](Actions& a) {
    swap_actions(a, {Kind::kSendForward, 0}, {Kind::kSendForward, 1});
  });
  EXPECT_NE(sends.find("stage 0, send forward of micro-batch 1: 0 is next"), std::string::npos)
      << sends;
  const std::string work = refusal(0, 0, [](Actions& a) {
    swap_actions(a, {Kind::kSendForward, 2}, {Kind::kForward, 2});
  });
  EXPECT_NE(work.find("stage 0, send forward of micro-batch 2: it comes before its forward"),
            std::string::npos)
      << work;
  const std::string backward = refusal(2, 0, [](Actions& a) {
    swap_actions(a, {Kind::kBackward, 1}, {Kind::kForward, 1});
  });
  EXPECT_NE(backward.find("stage 2, backward of micro-batch 1: it comes before its forward"),
            std::string::npos)
      << backward;
}

TEST(CheckPipelineSchedule, TwiceTheSameMicroBatchIsRefused) {
  const std::string text = refusal(2, 0, [](Actions& a) { a.push_back({Kind::kForward, 3}); });
  EXPECT_NE(text.find("stage 2, forward of micro-batch 3: 4 is next"), std::string::npos) << text;
}

TEST(CheckPipelineSchedule, BackwardBelowTheLowestTrainedStageIsRefused) {
  EXPECT_NE(refusal(0, 1,
                    [](Actions& a) {
                      a.push_back({Kind::kReceiveBackward, 0});
                    })
                .find("stage 0, receive backward of micro-batch 0"),
            std::string::npos);
  EXPECT_NE(refusal(1, 1,
                    [](Actions& a) {
                      a.push_back({Kind::kSendBackward, 0});
                    })
                .find("to a stage without one"),
            std::string::npos);
}

TEST(CheckPipelineSchedule, HoldingMoreThan1F1BIsRefused) {
  // All forwards before all backwards, as in GPipe.
  const std::string kept = refusal(2, 0, [](Actions& a) {
    std::stable_partition(a.begin(), a.end(), [](const PipelineAction& action) {
      return action.kind == Kind::kReceiveForward || action.kind == Kind::kForward;
    });
  });
  EXPECT_NE(kept.find("stage 2, forward of micro-batch 1: 2 micro-batches wait for their backward, "
                      "more than 1"),
            std::string::npos)
      << kept;
  // A frozen stage that awaits nothing runs ahead without end.
  const std::string ahead = refusal(0, 2, [](Actions& a) {
    std::erase_if(
        a, [](const PipelineAction& action) { return action.kind == Kind::kAwaitSentForward; });
  });
  EXPECT_NE(ahead.find("stage 0, forward of micro-batch 3: 4 outputs may wait for the next stage"),
            std::string::npos)
      << ahead;
}

}  // namespace
}  // namespace sutor
