// How often, and with what weight, the router chose each expert. All values are 64-bit integers, so
// sums over ranks, batches and layouts are exact and do not depend on their order.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace sutor {

// Scores as the selection reads them: global layer -> one value per expert.
struct ScoreTable {
  std::map<int, std::vector<double>> token;  // fraction of the layer's selections; adds up to 1
  std::map<int, std::vector<double>> gate;   // routing weight per token; empty when not known
  int num_experts = 0;
  int64_t num_tokens = 0;  // 0 = not known (a summary.json does not say)
  // Of files, for whoever uses the scores to say:
  std::vector<int> empty_layers{};  // left out: there were only zeros
  std::string mended_token{};       // how token scores became shares of a layer (W0303)
  std::string mended_gate{};        // the same of gate scores
  std::string no_gate{};            // why gate scores that a file has cannot be used
  std::string note{};               // what is odd, but changes nothing
};

class ExpertScores {
 public:
  // A gate sum is in units of 2^-29: 10^10 tokens with weight 1 stay below 2^63, and one token's
  // rounding (at most 2^-30) is far below the 4 decimals that selections use.
  static constexpr int kGateFractionBits = 29;

  ExpertScores() = default;
  // `layers`: global numbers of the MoE layers, rising.
  ExpertScores(std::vector<int> layers, int num_experts, int top_k);

  // Adds the choices of some tokens at global layer `layer`: topk_idx and topk_weights are [T, K],
  // row-major; the weights are those before routed_scaling_factor.
  // Throws E0323 for an id outside [0, num_experts) and for a weight that is not in [0, 1.01] (bf16
  // may round a weight up; NaN means a broken model).
  void add(int layer, std::span<const int64_t> topk_idx, std::span<const float> topk_weights,
           int k);

  // Adds scores of the same shape (other ranks, other files); E0328 when the shapes differ.
  void merge(const ExpertScores& other);

  // All integers of all layers in one buffer, to be summed over ranks in place.
  std::span<int64_t> flat() { return values_; }
  std::span<const int64_t> flat() const { return values_; }

  const std::vector<int>& layers() const { return layers_; }
  int num_experts() const { return num_experts_; }
  int top_k() const { return top_k_; }
  int64_t num_tokens() const;                           // of the first layer; 0 without layers
  int64_t num_tokens(int layer) const;                  // tokens routed at that layer
  std::span<const int64_t> counts(int layer) const;     // [E] selections
  std::span<const int64_t> gate_sums(int layer) const;  // [E] in units of 2^-29

  // counts / (all selections of the layer); 0 for a layer without tokens.
  double token_score(int layer, int expert) const;
  // gate sum / tokens; 0 for a layer without tokens.
  double gate_score(int layer, int expert) const;
  ScoreTable table() const;

  // For readers of files: sets the integers of a layer.
  void set_layer(int layer, std::span<const int64_t> counts, std::span<const int64_t> gate_sums,
                 int64_t num_tokens);

 private:
  // A layer's block of `values_`: counts, gate sums, number of tokens.
  size_t block() const { return 2 * static_cast<size_t>(num_experts_) + 1; }
  size_t offset(int layer) const;  // throws E0327 for a layer that has no scores

  std::vector<int> layers_;
  int num_experts_ = 0;
  int top_k_ = 0;
  std::vector<int64_t> values_;
};

}  // namespace sutor
