// What the record of a training (launch/log/run_record.h) says at its start and at its end.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "launch/data/sample_order.h"
#include "launch/log/run_record.h"
#include "launch/model/session.h"
#include "layers/esft/trainable_params.h"
#include "layers/optim/optimizer.h"
#include "parallel_state/model/model_info.h"
#include "recipes/recipe.h"

namespace sutor {

// Program and command, machine, layout, what trains, data. For rank 0. `from_step`: of the
// checkpoint that it goes on from, 0 without one.
nlohmann::ordered_json training_facts(const Recipe& recipe, const ModelInfo& model,
                                      const TrainableSet& trainable, Session& session,
                                      const nlohmann::json& provenance, const Digest& base,
                                      const PackingReport& data, int64_t from_step,
                                      int64_t total_steps);

// By rank: host, place in the layout, bytes of the trained state, peak bytes of its tensors.
// Collective; rank 0 gets all of them, the others their own.
nlohmann::ordered_json rank_facts(Session& session, const Optimizer& optimizer);

}  // namespace sutor
