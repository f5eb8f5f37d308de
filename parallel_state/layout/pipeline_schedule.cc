// Makes the 1F1B schedule and plays schedules through.
#include "parallel_state/layout/pipeline_schedule.h"

#include <algorithm>

#include "csrc/base/error.h"

namespace sutor {
namespace {

using Kind = PipelineActionKind;

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::kReceiveForward:
      return "receive forward";
    case Kind::kForward:
      return "forward";
    case Kind::kSendForward:
      return "send forward";
    case Kind::kReceiveBackward:
      return "receive backward";
    case Kind::kBackward:
      return "backward";
    case Kind::kSendBackward:
      return "send backward";
    case Kind::kAwaitSentForward:
      return "await sent forward";
  }
  return "?";
}

[[noreturn]] void refuse(int stage, const PipelineAction& action, const std::string& reason) {
  fail(ErrorCode::kBadSchedule,
       "internal error: pipeline schedule, stage {}, {}: {}. This is a bug in sutor.", stage,
       describe(action), reason);
}

// The actions of one stage.
class StageWriter {
 public:
  StageWriter(int stage, const PipelineSchedule& schedule)
      : first_(stage == 0),
        last_(stage + 1 == schedule.stages()),
        sends_backward_(stage > schedule.lowest_stage) {}

  void forward(int micro_batch) {
    if (!first_) add(Kind::kReceiveForward, micro_batch);
    add(Kind::kForward, micro_batch);
    if (!last_) add(Kind::kSendForward, micro_batch);
  }
  void backward(int micro_batch) {
    if (!last_) add(Kind::kReceiveBackward, micro_batch);
    add(Kind::kBackward, micro_batch);
    if (sends_backward_) add(Kind::kSendBackward, micro_batch);
  }
  void await_sent(int micro_batch) {
    if (!last_) add(Kind::kAwaitSentForward, micro_batch);
  }
  std::vector<PipelineAction> take() { return std::move(actions_); }

 private:
  void add(Kind kind, int micro_batch) { actions_.push_back({kind, micro_batch}); }

  bool first_, last_, sends_backward_;
  std::vector<PipelineAction> actions_;
};

std::vector<PipelineAction> forward_only(int stage, const PipelineSchedule& schedule) {
  StageWriter writer(stage, schedule);
  const int in_flight_limit = schedule.stages() - stage;
  for (int m = 0; m < schedule.micro_batches; ++m) {
    if (m >= in_flight_limit) writer.await_sent(m - in_flight_limit);
    writer.forward(m);
  }
  return writer.take();
}

// As many forwards as stages follow, then one forward and one backward in turn, then the backwards
// that are left.
std::vector<PipelineAction> one_forward_one_backward(int stage, const PipelineSchedule& schedule) {
  StageWriter writer(stage, schedule);
  const int warm_up = std::min(schedule.stages() - stage - 1, schedule.micro_batches);
  for (int m = 0; m < warm_up; ++m) writer.forward(m);
  for (int m = warm_up; m < schedule.micro_batches; ++m) {
    writer.forward(m);
    writer.backward(m - warm_up);
  }
  for (int m = schedule.micro_batches - warm_up; m < schedule.micro_batches; ++m) {
    writer.backward(m);
  }
  return writer.take();
}

// What a stage has done so far; counts are enough because everything goes in the order of
// micro-batches.
struct Progress {
  size_t next = 0;  // index of the action to come
  int received_forward = 0, forwards = 0, sent_forward = 0;
  int received_backward = 0, backwards = 0, sent_backward = 0;
  int taken = 0;  // outputs that the stage after is known to have received
};

class Player {
 public:
  Player(const PipelineSchedule& schedule, PipelineSends sends)
      : schedule_(schedule), sends_(sends), progress_(schedule.actions.size()) {}

  void play() {
    bool moved = true;
    while (moved) {
      moved = false;
      for (int s = 0; s < schedule_.stages(); ++s) {
        while (action_of(s) && can_act(s)) {
          act(s);
          moved = true;
        }
      }
    }
    for (int s = 0; s < schedule_.stages(); ++s) {
      if (action_of(s)) refuse(s, *action_of(s), "deadlock: it waits for ever");
    }
    for (int s = 0; s < schedule_.stages(); ++s) check_end(s);
  }

 private:
  const PipelineAction* action_of(int stage) const {
    if (stage < 0 || stage >= schedule_.stages()) return nullptr;
    const auto& actions = schedule_.actions[stage];
    return progress_[stage].next < actions.size() ? &actions[progress_[stage].next] : nullptr;
  }
  bool is_at(int stage, Kind kind) const {
    return action_of(stage) && action_of(stage)->kind == kind;
  }
  bool is_last(int stage) const { return stage + 1 == schedule_.stages(); }
  bool sends_backward(int stage) const { return stage > schedule_.lowest_stage; }

  // Under rendezvous a send goes on when the receiver stands at this very message.
  bool can_act(int stage) const {
    const bool rendezvous = sends_ == PipelineSends::kRendezvous;
    const Progress& p = progress_[stage];
    switch (action_of(stage)->kind) {
      case Kind::kReceiveForward:
        return stage > 0 && progress_[stage - 1].sent_forward > p.received_forward;
      case Kind::kReceiveBackward:
        return !is_last(stage) && progress_[stage + 1].sent_backward > p.received_backward;
      case Kind::kSendForward:
        return !rendezvous || (is_at(stage + 1, Kind::kReceiveForward) &&
                               progress_[stage + 1].received_forward == p.sent_forward);
      case Kind::kSendBackward:
        return !rendezvous || (is_at(stage - 1, Kind::kReceiveBackward) &&
                               progress_[stage - 1].received_backward == p.sent_backward);
      case Kind::kAwaitSentForward:
        return !is_last(stage) &&
               progress_[stage + 1].received_forward > action_of(stage)->micro_batch;
      default:
        return true;
    }
  }

  // The counts say which micro-batch must be next; `ready` bounds it by what goes before.
  void act(int stage) {
    const PipelineAction action = *action_of(stage);
    Progress& p = progress_[stage];
    const auto count = [&](int& done, int ready, const char* before) {
      if (action.micro_batch != done) refuse(stage, action, fmt::format("{} is next", done));
      if (done >= ready) refuse(stage, action, fmt::format("it comes before {}", before));
      ++done;
    };
    const int all = schedule_.micro_batches;
    switch (action.kind) {
      case Kind::kReceiveForward:
        count(p.received_forward, all, "the step");
        break;
      case Kind::kForward:
        count(p.forwards, stage == 0 ? all : p.received_forward, "its activations are received");
        check_in_flight(stage, action);
        break;
      case Kind::kSendForward:
        count(p.sent_forward, is_last(stage) ? 0 : p.forwards, "its forward, or on the last stage");
        break;
      case Kind::kReceiveBackward:
        count(p.received_backward, schedule_.has_backward(stage) ? all : 0, "any is sent");
        p.taken = std::max(p.taken, p.received_backward);
        break;
      case Kind::kBackward:
        count(p.backwards, is_last(stage) ? p.forwards : std::min(p.forwards, p.received_backward),
              "its forward or its gradients");
        if (!schedule_.has_backward(stage)) refuse(stage, action, "nothing trains down here");
        break;
      case Kind::kSendBackward:
        count(p.sent_backward, sends_backward(stage) ? p.backwards : 0,
              "its backward, or to a stage without one");
        break;
      case Kind::kAwaitSentForward:
        p.taken = std::max(p.taken, action.micro_batch + 1);
        break;
    }
    ++p.next;
  }

  void check_in_flight(int stage, const PipelineAction& action) const {
    const Progress& p = progress_[stage];
    const int bound = schedule_.stages() - stage;
    const int kept = schedule_.has_backward(stage) ? p.forwards - p.backwards : 0;
    const int outputs = is_last(stage) ? 0 : p.forwards - p.taken;
    if (kept > bound) {
      refuse(stage, action,
             fmt::format("{} micro-batches wait for their backward, more than {}", kept, bound));
    }
    if (outputs > bound) {
      refuse(stage, action,
             fmt::format("{} outputs may wait for the next stage, more than {}", outputs, bound));
    }
  }

  void check_end(int stage) const {
    const Progress& p = progress_[stage];
    const int all = schedule_.micro_batches;
    const int trained = schedule_.has_backward(stage) ? all : 0;
    const std::pair<Kind, std::pair<int, int>> counts[] = {
        {Kind::kReceiveForward, {p.received_forward, stage == 0 ? 0 : all}},
        {Kind::kForward, {p.forwards, all}},
        {Kind::kSendForward, {p.sent_forward, is_last(stage) ? 0 : all}},
        {Kind::kReceiveBackward, {p.received_backward, is_last(stage) ? 0 : trained}},
        {Kind::kBackward, {p.backwards, trained}},
        {Kind::kSendBackward, {p.sent_backward, sends_backward(stage) ? all : 0}}};
    for (const auto& [kind, count] : counts) {
      if (count.first == count.second) continue;
      refuse(
          stage, {kind, count.first},
          fmt::format("{} of {} micro-batches at the end of the step", count.first, count.second));
    }
  }

  const PipelineSchedule& schedule_;
  PipelineSends sends_;
  std::vector<Progress> progress_;
};

}  // namespace

std::string describe(const PipelineAction& action) {
  return fmt::format("{} of micro-batch {}", name_of(action.kind), action.micro_batch);
}

int PipelineSchedule::max_in_flight(int stage) const {
  if (!has_backward(stage)) return 0;
  int now = 0, most = 0;
  for (const PipelineAction& action : actions[stage]) {
    if (action.kind == Kind::kForward) most = std::max(most, ++now);
    if (action.kind == Kind::kBackward) --now;
  }
  return most;
}

PipelineSchedule make_pipeline_schedule(int stages, int micro_batches, int lowest_stage) {
  SUTOR_ASSERT(stages >= 1 && micro_batches >= 0);
  SUTOR_ASSERT(lowest_stage >= 0 && lowest_stage <= stages);
  PipelineSchedule schedule{micro_batches, lowest_stage, {}};
  schedule.actions.resize(static_cast<size_t>(stages));
  for (int stage = 0; stage < stages; ++stage) {
    schedule.actions[stage] = schedule.has_backward(stage)
                                  ? one_forward_one_backward(stage, schedule)
                                  : forward_only(stage, schedule);
  }
  return schedule;
}

void check_pipeline_schedule(const PipelineSchedule& schedule, PipelineSends sends) {
  Player(schedule, sends).play();
}

}  // namespace sutor
