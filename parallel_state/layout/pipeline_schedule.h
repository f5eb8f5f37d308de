// The actions of each pipeline stage, in order, in one optimizer step: the 1F1B schedule as plain
// data, made and checked before anything runs. No torch, no MPI: the trainer executes the actions.
//
// Stages below the lowest trainable layer only run forward: they receive and send nothing backward.
// Since nothing comes back to such a stage, it could run ahead of its consumer without bound;
// instead it waits until the consumer has taken an earlier output. Stage s of p then never has more
// than p - s micro-batches in flight, kept for their backward or until they are taken: a training
// consumer takes p - s - 2 at once while it warms up, works on one, and finds another one ready, so
// it never waits for a stage that is not slower than itself.
#pragma once

#include <string>
#include <vector>

namespace sutor {

enum class PipelineActionKind {
  kReceiveForward,    // blocks until the activations of the previous stage are there
  kForward,           // keeps what the backward needs, if this stage has one
  kSendForward,       // returns at once
  kReceiveBackward,   // blocks until the gradients of the next stage are there
  kBackward,          // frees what the forward kept
  kSendBackward,      // returns at once
  kAwaitSentForward,  // blocks until the next stage has received this micro-batch's activations;
                      // without it only the bound on outputs in flight is lost
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

// lowest_stage: the stage of the lowest trainable layer; `stages` = nothing trains and all stages
// only run forward. Throws an internal error for sizes that make no sense, and what
// check_pipeline_schedule() throws.
PipelineSchedule make_pipeline_schedule(int stages, int micro_batches, int lowest_stage);

// How a send behaves. The program's sends are asynchronous, and the schedule needs that: rendezvous
// sends block until the receive is posted, and two neighbours that both train deadlock as soon as
// there are two micro-batches, one sending forward and the other backward.
enum class PipelineSends { kAsynchronous, kRendezvous };

// Simulates the schedule on all stages. Throws an internal error that names stage and action when
// it deadlocks, when a message is not the one that the other side expects or is never received,
// when a micro-batch does not run exactly once (forward everywhere, backward from lowest_stage on,
// after its forward), and when stage s has more than stages - s micro-batches in flight, or as many
// outputs that may not have been taken.
void check_pipeline_schedule(const PipelineSchedule& schedule,
                             PipelineSends sends = PipelineSends::kAsynchronous);

}  // namespace sutor
