// Costs of layers, and the split into stages by dynamic programming.
#include "parallel_state/layout/stage_costs.h"

#include <algorithm>
#include <limits>

#include "csrc/base/dtype.h"
#include "csrc/base/error.h"

namespace sutor {
namespace {

// Of one layer, or of what stands before or after all of them.
struct Work {
  double active = 0;     // elements that a token meets
  double trainable = 0;  // those of them that train
};

double active_elements(const ModelInfo& model, const TensorEntry& entry) {
  const double elements = static_cast<double>(num_elements(entry.shape));
  return entry.expert < 0 ? elements : elements * model.top_k / model.num_experts;
}

// Costs closer than this are equal: they are sums in different orders.
constexpr double kSame = 1e-9;

class Splitter {
 public:
  Splitter(const StageCosts& costs, int stages)
      : layers_(static_cast<int>(costs.layers.size())), stages_(stages), costs_(costs) {
    begin_.push_back(0);
    for (const double cost : costs.layers) begin_.push_back(begin_.back() + cost);
  }

  std::vector<int> split() {
    const double limit = least_maximum() * (1 + kSame);
    // squares_[s][l]: least sum of squares of stages s and later when they hold layers l and later,
    // none above the limit.
    squares_ = table();
    squares_[stages_][layers_] = 0;
    for (int s = stages_ - 1; s >= 0; --s) {
      for (int l = 0; l < layers_; ++l) {
        for (int end = l + 1; end <= layers_; ++end) {
          const double cost = cost_of(s, l, end);
          if (cost > limit) continue;
          squares_[s][l] = std::min(squares_[s][l], cost * cost + squares_[s + 1][end]);
        }
      }
    }
    std::vector<int> counts;
    for (int s = 0, l = 0; s < stages_; ++s) {
      int end = layers_;
      while (!is_best(s, l, end, limit)) --end;
      counts.push_back(end - l);
      l = end;
    }
    return counts;
  }

 private:
  using Table = std::vector<std::vector<double>>;

  Table table() const {
    return Table(stages_ + 1,
                 std::vector<double>(layers_ + 1, std::numeric_limits<double>::infinity()));
  }

  double cost_of(int stage, int begin, int end) const {
    double cost = begin_[end] - begin_[begin];
    if (stage == 0) cost += costs_.embedding;
    if (stage == stages_ - 1) cost += costs_.head;
    return cost;
  }

  double least_maximum() const {
    Table most = table();  // of stages s and later that hold layers l and later
    most[stages_][layers_] = 0;
    for (int s = stages_ - 1; s >= 0; --s) {
      for (int l = 0; l < layers_; ++l) {
        for (int end = l + 1; end <= layers_; ++end) {
          most[s][l] = std::min(most[s][l], std::max(cost_of(s, l, end), most[s + 1][end]));
        }
      }
    }
    return most[0][0];
  }

  bool is_best(int stage, int begin, int end, double limit) const {
    const double cost = cost_of(stage, begin, end);
    return cost <= limit &&
           cost * cost + squares_[stage + 1][end] <= squares_[stage][begin] * (1 + kSame);
  }

  int layers_, stages_;
  const StageCosts& costs_;
  std::vector<double> begin_;  // [layers + 1] cost of the layers before
  Table squares_;
};

}  // namespace

StageCosts stage_costs(const ModelInfo& model, const Trains& trains, double supervised) {
  std::vector<Work> layers(static_cast<size_t>(model.num_layers));
  Work after;
  int lowest = model.num_layers;  // layers from here on have a backward
  bool any = false, embedding_trains = false;
  double head_trainable = 0;
  const double head =
      static_cast<double>(model.vocab_size) * static_cast<double>(model.hidden_size);
  for (const TensorEntry& entry : model.tensors.entries()) {
    const bool trainable = trains(entry);
    any |= trainable;
    if (entry.role == TensorRole::kEmbedding) {
      embedding_trains |= trainable;
      if (trainable) lowest = 0;
      if (trainable && model.tied_head) head_trainable = head;
    } else if (entry.role == TensorRole::kHead) {
      if (trainable) head_trainable = head;
    } else {
      const double active = active_elements(model, entry);
      Work& work = entry.layer < 0 ? after : layers[entry.layer];
      work.active += active;
      if (trainable) work.trainable += active;
      if (trainable && entry.layer >= 0) lowest = std::min(lowest, entry.layer);
    }
  }
  StageCosts costs;
  for (int l = 0; l < model.num_layers; ++l) {
    costs.layers.push_back(layers[l].active * (l < lowest ? 1 : 2) + layers[l].trainable);
  }
  // A row is copied, and its gradient added where the embedding trains.
  costs.embedding = static_cast<double>(model.hidden_size) * (embedding_trains ? 2 : 1);
  const bool below = lowest < model.num_layers || after.trainable > 0;
  // The loss passes over the logits three times: maximum, exponentials, gradient.
  const double loss = 3.0 * static_cast<double>(model.vocab_size);
  costs.head = supervised * (head * (below ? 2 : 1) + head_trainable + loss) +
               after.active * (any ? 2 : 1) + after.trainable;
  return costs;
}

std::vector<double> costs_of_stages(const StageCosts& costs, const std::vector<int>& layers) {
  std::vector<double> result;
  size_t at = 0;
  for (const int count : layers) {
    double cost = 0;
    for (int i = 0; i < count; ++i) cost += costs.layers[at++];
    result.push_back(cost);
  }
  SUTOR_ASSERT(!result.empty() && at == costs.layers.size());
  result.front() += costs.embedding;
  result.back() += costs.head;
  return result;
}

std::vector<int> balanced_stages(const StageCosts& costs, int num_stages) {
  SUTOR_ASSERT(num_stages >= 1 && num_stages <= static_cast<int>(costs.layers.size()));
  return Splitter(costs, num_stages).split();
}

StageMap make_stage_map(const ModelInfo& model, int num_stages, const std::string& stages,
                        const Trains& trains) {
  if (stages != "auto") return StageMap(model.num_layers, num_stages, stages);
  StageMap(model.num_layers, num_stages);  // refuses more stages than layers
  return StageMap(balanced_stages(stage_costs(model, trains), num_stages));
}

}  // namespace sutor
