// Where a step ceased to be finite, for the error that ends the training: the weight, the layer and
// document, or the gradient that is the first.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "launch/data/micro_batch.h"
#include "launch/model/session.h"
#include "launch/train/passes/pipeline_runner.h"

namespace sutor {

struct Divergence {
  std::string place;     // a sentence, the same on all ranks; empty where no rank found anything
  int micro_batch = -1;  // of the rank that found it: where it was, when that is known; else -1
};

// Names a document of one of this rank's micro-batches: "document 17 of law".
using DocumentName = std::function<std::string(int micro_batch, int64_t document)>;

// Looks for what is not finite in weights, then layer by layer in the step's forward passes, then
// in the gradients; of all ranks' findings the first in this order is told. For after
// ParameterStore::finish_reductions: the gradients are those of the step, and do not survive.
// Runs forward_backward() again with `options`: a training that goes on has no use for it.
// Collective over the world.
Divergence find_divergence(Session& session, std::span<const MicroBatch> micro_batches,
                           PipelineOptions options, const DocumentName& document_name);

}  // namespace sutor
