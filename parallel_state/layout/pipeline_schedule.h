// What each pipeline stage does, in order, in one optimizer step: the 1F1B schedule as plain data,
// made and checked before anything runs. No torch, no MPI: the trainer carries the actions out.
//
// Stages below the lowest trained layer only run forward: nothing is received or sent backward
// there. Nothing comes back to such a stage, so it could run ahead of its consumer without end; it
// awaits that the consumer has taken an earlier output instead. Then stage s of p never holds more
// than p - s micro-batches, whether it keeps them for their backward or until they are taken: a
// training consumer takes p - s - 2 at once while it warms up, works on one, and finds another one
// ready, so it never waits for a stage that is not slower than itself.
#pragma once

#include <string>
#include <vector>

namespace sutor {

enum class PipelineActionKind {
  kReceiveForward,    // blocks until the activations of the stage before are there
  kForward,           // keeps what the backward needs, if this stage has one
  kSendForward,       // returns at once
  kReceiveBackward,   // blocks until the gradients of the stage after are there
  kBackward,          // lets go of what the forward kept
  kSendBackward,      // returns at once
  kAwaitSentForward,  // blocks until the stage after has received this micro-batch's activations;
                      // left out, nothing but the bound on held outputs is lost
};

struct PipelineAction {
  PipelineActionKind kind = PipelineActionKind::kForward;
  int micro_batch = 0;

  bool operator==(const PipelineAction&) const = default;
};

// "send forward of micro-batch 3"
std::string describe(const PipelineAction& action);

struct PipelineSchedule {
  int micro_batches = 0;
  int lowest_stage = 0;
  std::vector<std::vector<PipelineAction>> actions;  // [stages]

  int stages() const { return static_cast<int>(actions.size()); }
  bool has_backward(int stage) const { return stage >= lowest_stage; }
};

// lowest_stage: the stage that holds the lowest trained layer; `stages` = nothing trains, all
// stages only run forward. Throws an internal error for sizes that make no sense, and what
// check_pipeline_schedule() throws.
PipelineSchedule make_pipeline_schedule(int stages, int micro_batches, int lowest_stage);

// How a send behaves. The program's sends are asynchronous, and the schedule needs that: with
// rendezvous sends, which block until the receive is posted, two neighbours that both train end in
// a deadlock as soon as there are two micro-batches, one sending forward and the other backward.
enum class PipelineSends { kAsynchronous, kRendezvous };

// Plays the schedule through on all stages. Throws an internal error that names stage and action
// when it deadlocks, when a message is not the one that the other side expects or is never
// received, when a micro-batch does not run exactly once (forward everywhere, backward from the
// lowest trained stage on, after its forward), and when stage s holds more than stages - s
// micro-batches, or outputs that may not have been taken.
void check_pipeline_schedule(const PipelineSchedule& schedule,
                             PipelineSends sends = PipelineSends::kAsynchronous);

}  // namespace sutor
