// The batch on which a training ceased to be finite: its documents by name, and in
// OUTPUT/diverged.json for whoever looks into it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "launch/data/micro_batch.h"
#include "launch/data/sample_order.h"
#include "launch/data/token_store.h"
#include "launch/log/run_paths.h"

namespace sutor {

struct DivergedStep {
  int64_t step = 0;
  double loss = 0, grad_norm = 0;
  std::string place;  // Divergence::place
};

// "document 17 of law": number `document` of a micro-batch that is made of `samples`, counted
// from 0 in its token store.
std::string document_name(std::span<const TokenStore* const> stores,
                          std::span<const Sample> samples, int64_t document);

// A JSON object: step, loss, grad_norm (null where it is not finite), place, and documents, each
// with name, ids and targets (null: not in the loss). Replaces the file of an earlier time. A
// failure is no error: what ends the training is told in any case.
void write_diverged_batch(const RunPaths& paths, const DivergedStep& diverged,
                          std::span<const TokenStore* const> stores,
                          std::span<const Sample> samples, const MicroBatch& micro_batch);

}  // namespace sutor
