// What the page of a run is drawn from: its receipt, and what has more numbers than a receipt
// lists. The Python step (tools/report.py) reads metrics.jsonl and eval.jsonl itself.
#pragma once

#include <nlohmann/json.hpp>

#include "launch/log/run_paths.h"

namespace sutor {

// `receipt`: of make_receipt().
// {"receipt", "folder", "recipe_text", "data": {"packing", "sets"},
//  "scores": {"num_experts", "tokens", "layers": {"<global layer>": [share of the selections]}},
//  "selection": {"<global layer>": [expert ids]},
//  "placement": [expected load of an expert-parallel rank over the mean]}
// What a run does not have, or what is damaged, is null; "problems" has the messages.
nlohmann::ordered_json run_facts(const RunPaths& paths, nlohmann::ordered_json receipt);

}  // namespace sutor
