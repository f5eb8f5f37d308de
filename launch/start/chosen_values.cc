#include "launch/start/chosen_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sutor {
namespace {

constexpr int64_t kShortestPack = 256, kUsualPack = 4096, kLongestPack = 32768;
constexpr int64_t kManyPacks = 2048;   // from here on longer packs do not cost steps
constexpr int64_t kStepsAnEpoch = 16;  // fewer packs than this times the batch: a smaller batch
constexpr int64_t kLargestBatch = 32;  // of the ESFT paper
constexpr int64_t kWantedSteps = 100;  // in which a model begins to learn a task
constexpr int64_t kMostEpochs = 5;     // beyond, rows are learned by heart
constexpr int64_t kFewSteps = 20;
constexpr double kFullPacks = 0.95;
constexpr int64_t kHeldOutRows = 20;   // enough to see whether a training helps
constexpr int64_t kFewestHeldOut = 5;  // fewer say nothing

int64_t ceil_of(double x) { return static_cast<int64_t>(std::ceil(x)); }

int64_t power_of_two_from(int64_t least) {
  int64_t power = 1;
  while (power < least) power *= 2;
  return power;
}

int64_t power_of_two_up_to(int64_t most) {
  int64_t power = 1;
  while (power * 2 <= most) power *= 2;
  return power;
}

// One significant digit of 1, 2 or 5.
double rounded(double x) {
  const double power = std::pow(10.0, std::floor(std::log10(x)));
  const double digit = x / power;
  return (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10) * power;
}

std::string number(double x) { return fmt::format("{:.6g}", x); }

void choose_pack(const RowFacts& rows, const ModelFacts& model, ChosenValues& chosen,
                 int64_t& seq_len) {
  const int64_t context = model.context > 0 ? model.context : kLongestPack;
  const int64_t most = std::min(context, kLongestPack);
  const int64_t wanted = rows.longest <= kUsualPack ? rows.longest : rows.long_one;
  seq_len = std::min(power_of_two_from(std::max(wanted, kShortestPack)), most);
  const auto packs_of = [&](int64_t length) {
    return static_cast<double>(rows.tokens) / static_cast<double>(length);
  };
  while (seq_len * 2 <= std::min(kUsualPack, most) && packs_of(seq_len * 2) >= kManyPacks) {
    seq_len *= 2;
  }
  chosen.values["data.seq_len"] = fmt::format("{}", seq_len);
  chosen.reasons["data.seq_len"] =
      fmt::format("documents have {} tokens in the median, 99% of them up to {}, the longest {}",
                  rows.median, rows.long_one, rows.longest);
  if (rows.longest > seq_len) {
    chosen.values["data.too_long"] = "truncate";
    chosen.reasons["data.too_long"] =
        "some documents are longer than seq_len; drop leaves them out";
    chosen.warnings.push_back(fmt::format(
        "the longest document has {} tokens and is cut at data.seq_len {}", rows.longest, seq_len));
  }
}

void choose_held_out(const RowFacts& rows, const StartRequest& request, ChosenValues& chosen) {
  if (request.has_eval) return;
  const std::vector<double>& shares = held_out_shares();
  int64_t held_out = 0;
  for (size_t i = 0; i < shares.size() && i < rows.held_out.size(); ++i) {
    if (held_out >= kHeldOutRows || rows.held_out[i] >= rows.rows) break;
    held_out = rows.held_out[i];
    chosen.share = held_out >= kFewestHeldOut ? shares[i] : 0;
  }
  if (chosen.share == 0) {
    chosen.warnings.push_back(
        "too few rows to hold some out: nothing will say whether the training helps. Give rows of "
        "the same task by --eval");
  } else if (held_out < kHeldOutRows) {
    chosen.warnings.push_back(
        fmt::format("{} rows are held out: their loss is a rough measure", held_out));
  }
}

void choose_steps(const RowFacts& rows, const StartRequest& request, int64_t seq_len,
                  ChosenValues& chosen) {
  const double tokens = static_cast<double>(rows.tokens) * (1 - chosen.share);
  chosen.packs =
      std::max<int64_t>(1, ceil_of(tokens / (kFullPacks * static_cast<double>(seq_len))));
  int64_t batch = power_of_two_up_to(std::max<int64_t>(1, chosen.packs / kStepsAnEpoch));
  batch = std::min(batch, kLargestBatch);
  batch = (batch + request.ranks - 1) / request.ranks * request.ranks;  // each rank has its share
  chosen.steps_an_epoch = (chosen.packs + batch - 1) / batch;
  const int64_t epochs = std::clamp<int64_t>(
      (kWantedSteps + chosen.steps_an_epoch - 1) / chosen.steps_an_epoch, 1, kMostEpochs);
  chosen.steps = epochs * chosen.steps_an_epoch;
  chosen.values["train.global_batch"] = fmt::format("{}", batch);
  chosen.reasons["train.global_batch"] =
      fmt::format("about {} packs an epoch, so that an epoch has {} steps", chosen.packs,
                  chosen.steps_an_epoch);
  chosen.values["train.micro_batch"] =
      fmt::format("{}", std::clamp<int64_t>(batch / request.ranks, 1, 2));
  chosen.values["schedule.epochs"] = fmt::format("{}", epochs);
  chosen.reasons["schedule.epochs"] = fmt::format("about {} steps in all", chosen.steps);
  const int64_t every = std::max<int64_t>(1, chosen.steps / 10);
  chosen.values["eval.every"] = chosen.values["checkpoint.every"] = fmt::format("{}", every);
  chosen.reasons["eval.every"] = "ten times; the best of these checkpoints is exported";
  chosen.reasons["checkpoint.every"] = "at the steps that are evaluated";
  if (chosen.steps < kFewSteps) {
    chosen.warnings.push_back(fmt::format(
        "the rows make {} packs, {} steps in {} epochs: too little for much to be learned. Add "
        "rows, or raise schedule.epochs and watch the loss of the held-out rows",
        chosen.packs, chosen.steps, epochs));
  }
}

void choose_rate(const ModelFacts& model, const StartRequest& request, ChosenValues& chosen) {
  // 1e-5 of the ESFT paper for 15.7 billion parameters, 1e-2 of the studies for 3.4 million.
  const double size = std::max(1.0, static_cast<double>(model.parameters));
  double lr = std::clamp(1e-5 * std::pow(15.7e9 / size, 0.82), 1e-5, 1e-2);
  std::string why = fmt::format("by method and size of the model ({:.3g} parameters)", size);
  if (request.method == "full") lr = std::min(lr, 1e-3);
  if (request.method == "lora") lr = std::min(1e-2, 10 * lr);
  chosen.values["optim.lr"] = number(rounded(lr));
  chosen.reasons["optim.lr"] = why + "; try a third and three times of it";
  chosen.values["optim.weight_decay"] = "0";
  chosen.reasons["optim.weight_decay"] = "decay pulls to zero, not to the base";
  chosen.values["schedule.name"] = "cosine";
  chosen.values["schedule.warmup"] = "5%";
  chosen.values["schedule.min_lr"] = "10%";
}

void choose_layout(const ModelFacts& model, const StartRequest& request, ChosenValues& chosen) {
  const bool fp32 = model.stored_fp32 && model.parameters < 1'000'000'000;
  chosen.values["model.dtype"] = fp32 ? "fp32" : "bf16";
  if (fp32) chosen.reasons["model.dtype"] = "as the weights are stored, and the model is small";
  if (request.ranks == 1) return;
  const int64_t bytes = fp32 ? 4 : 2;
  const int64_t dense = (model.parameters - model.expert_parameters) * bytes;
  int chosen_ep = 1;
  for (int ep = 1; ep <= std::gcd(request.ranks, model.experts); ++ep) {
    if (request.ranks % ep != 0 || model.experts % ep != 0) continue;
    chosen_ep = ep;
    if (request.rank_memory <= 0) break;
    const int64_t need = dense + model.expert_parameters * bytes / ep;
    if (need <= request.rank_memory * 6 / 10) break;  // the rest is for training
  }
  chosen.values["parallel.ep"] = fmt::format("{}", chosen_ep);
  chosen.reasons["parallel.ep"] = fmt::format(
      "for {} ranks: {}", request.ranks,
      chosen_ep == 1 ? "the weights fit each of them, so that they need not be spread"
                     : "the experts are spread, as the whole weights do not fit a rank");
}

}  // namespace

const std::vector<double>& held_out_shares() {
  static const std::vector<double> shares = {0.01, 0.05, 0.1, 0.2};
  return shares;
}

ModelFacts model_facts(const ModelInfo& model) {
  ModelFacts facts{.experts = model.num_experts};
  for (const TensorEntry& tensor : model.tensors.entries()) {
    int64_t size = 1;
    for (const int64_t axis : tensor.shape) size *= axis;
    facts.parameters += size;
    if (tensor.role == TensorRole::kRoutedExpert) facts.expert_parameters += size;
  }
  return facts;
}

ChosenValues choose_values(const RowFacts& rows, const ModelFacts& model,
                           const StartRequest& request) {
  ChosenValues chosen;
  int64_t seq_len = 0;
  choose_pack(rows, model, chosen, seq_len);
  choose_held_out(rows, request, chosen);
  choose_steps(rows, request, seq_len, chosen);
  choose_rate(model, request, chosen);
  choose_layout(model, request, chosen);
  chosen.values["train.method"] = request.method;
  return chosen;
}

}  // namespace sutor
