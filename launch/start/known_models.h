// Model families and the published models of them: what is supported, and which tests prove it.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sutor {

struct KnownModel {
  std::string_view name, family;
  double billions, active_billions;  // of parameters, as computed from its config.json
  int layers, experts, top_k;
};
std::span<const KnownModel> known_models();

// A comparison with transformers 5.23.0 that the interop tests make: what, in which file, with
// which of the small models of tests/interop/models.py.
struct Proof {
  std::string what, file, shape;
};
std::vector<Proof> proofs_of(std::string_view family);

// What `sutor models` prints: all families, or one with its models and proofs. `name`: a family or
// a published model, in any case. Throws E0202 for another name, and names the nearest.
std::string models_text();
std::string models_text(const std::string& name);
nlohmann::ordered_json models_json(const std::string& name);  // "": all

}  // namespace sutor
