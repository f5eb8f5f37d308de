#include "launch/eval/generation.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/index_select.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <nlohmann/json.hpp>

#include "checkpoint/huggingface/end_tokens.h"
#include "csrc/base/error.h"
#include "csrc/base/process/progress.h"
#include "csrc/base/profile.h"
#include "csrc/ops/device/host_window.h"
#include "launch/eval/sampling.h"
#include "launch/job/stop_request.h"
#include "layers/attention/kv_cache.h"
#include "layers/blocks/head_loss.h"

namespace sutor {
namespace {

constexpr int64_t kPromptTokens = 4096;  // of new sequences in one forward pass

struct Sequence {
  size_t prompt = 0;  // number among all prompts
  int64_t slot = 0;
  int64_t next = 0;  // the token that the next forward pass takes
};

// The prompts of one data-parallel rank: which are waiting, running, completed.
class Generator {
 public:
  Generator(const Session& session, std::span<const std::vector<int64_t>> prompts,
            const std::set<int64_t>& stop, const GenerateOptions& options)
      : session_(session), prompts_(prompts), stop_(stop), options_(options) {
    const Comm& dp = session.parallel().dp_cp();
    int64_t longest = 0;
    for (size_t p = dp.rank(); p < prompts.size(); p += dp.size()) {
      waiting_.push_back(p);
      longest = std::max(longest, static_cast<int64_t>(prompts[p].size()));
    }
    own_ = static_cast<int64_t>(waiting_.size());
    const int64_t slots =
        std::max<int64_t>(1, std::min(options.batch, static_cast<int64_t>(waiting_.size())));
    cache_.emplace(session.source().info.num_layers, slots, longest + options.max_new_tokens);
    for (int64_t slot = slots; slot-- > 0;) free_slots_.push_back(slot);
    completions_.resize(prompts.size());
  }

  bool has_work() const { return !waiting_.empty() || !running_.empty(); }
  std::vector<Completion>& completions() { return completions_; }
  // As many of `all` prompts as this rank has done of its own.
  int64_t ended_share(int64_t all) const { return own_ > 0 ? all * ended_ / own_ : 0; }

  // One forward pass: of waiting sequences while there are any and slots are free, else of one
  // token of every running sequence. Collective; a rank without work passes an empty batch.
  void step() {
    std::vector<Sequence> batch = admitted();
    const bool first = !batch.empty();
    if (!first) batch = running_;
    std::vector<int64_t> ids, offsets = {0}, starts;
    std::vector<int64_t> slots;
    for (const Sequence& sequence : batch) {
      if (first) {
        const std::vector<int64_t>& prompt = prompts_[sequence.prompt];
        ids.insert(ids.end(), prompt.begin(), prompt.end());
      } else {
        ids.push_back(sequence.next);
      }
      offsets.push_back(static_cast<int64_t>(ids.size()));
      starts.push_back(cache_->length(sequence.slot));
      slots.push_back(sequence.slot);
    }
    const std::vector<int64_t> chosen = next_tokens(
        batch, make_packed_batch(ids, offsets, starts, session_.model().device()), slots);
    if (first) running_.insert(running_.end(), batch.begin(), batch.end());
    const size_t begin = running_.size() - batch.size();
    for (size_t i = 0; i < batch.size(); ++i) take(running_[begin + i], chosen[i]);
    std::erase_if(running_, [&](const Sequence& sequence) { return ended(sequence); });
  }

 private:
  std::vector<Sequence> admitted() {
    std::vector<Sequence> batch;
    int64_t tokens = 0;
    while (!waiting_.empty() && !free_slots_.empty()) {
      const int64_t length = static_cast<int64_t>(prompts_[waiting_.front()].size());
      if (!batch.empty() && tokens + length > kPromptTokens) break;
      tokens += length;
      batch.push_back({waiting_.front(), free_slots_.back(), 0});
      waiting_.pop_front();
      free_slots_.pop_back();
    }
    return batch;
  }

  // The next token of each sequence: the last stage chooses it and broadcasts it to the others.
  std::vector<int64_t> next_tokens(const std::vector<Sequence>& batch, const PackedBatch& packed,
                                   const std::vector<int64_t>& slots) {
    ForwardContext context{.batch = packed};
    context.cache = &*cache_;
    context.slots = slots;
    const at::Tensor hidden = session_.model().hidden_states(context);
    std::vector<int64_t> chosen(batch.size());
    const ParallelState& parallel = session_.parallel();
    if (parallel.is_last_stage()) {
      std::vector<int64_t> last;
      for (size_t d = 0; d < slots.size(); ++d) last.push_back(packed.doc_offsets[d + 1] - 1);
      const at::Tensor rows = ops::longs_on(last, hidden.device());
      const at::Tensor logits =
          head_logits(at::index_select(hidden, 0, rows), session_.model().head(),
                      session_.model().tensor_parallel())
              .cpu();
      const ProfileScope scope("sampling");
      for (size_t i = 0; i < batch.size(); ++i) {
        const Completion& completion = completions_[batch[i].prompt];
        chosen[i] = choose_token(logits[static_cast<int64_t>(i)], options_,
                                 static_cast<int64_t>(batch[i].prompt),
                                 static_cast<int64_t>(completion.ids.size()));
      }
    }
    parallel.pp().broadcast(std::as_writable_bytes(std::span(chosen)), parallel.pp().size() - 1,
                            "next tokens");
    return chosen;
  }

  void take(Sequence& sequence, int64_t token) {
    Completion& completion = completions_[sequence.prompt];
    sequence.next = token;
    completion.ids.push_back(token);
    completion.stopped = stop_.count(token) > 0;
  }

  bool ended(const Sequence& sequence) {
    const Completion& completion = completions_[sequence.prompt];
    if (!completion.stopped &&
        static_cast<int64_t>(completion.ids.size()) < options_.max_new_tokens) {
      return false;
    }
    ++ended_;
    cache_->clear(sequence.slot);
    free_slots_.push_back(sequence.slot);
    return true;
  }

  const Session& session_;
  std::span<const std::vector<int64_t>> prompts_;
  const std::set<int64_t>& stop_;
  const GenerateOptions& options_;
  std::optional<KvCache> cache_;
  std::deque<size_t> waiting_;
  std::vector<Sequence> running_;
  std::vector<int64_t> free_slots_;
  std::vector<Completion> completions_;
  int64_t own_ = 0, ended_ = 0;  // prompts of this rank
};

void check_prompts(std::span<const std::vector<int64_t>> prompts, int64_t vocab) {
  for (size_t p = 0; p < prompts.size(); ++p) {
    if (prompts[p].empty()) fail(ErrorCode::kBadRow, "prompt {} has no tokens", p + 1);
    for (const int64_t id : prompts[p]) {
      if (id < 0 || id >= vocab) {
        fail(ErrorCode::kBeyondVocabulary,
             "prompt {} holds the id {}, but the model's vocabulary has {}", p + 1, id, vocab);
      }
    }
  }
}

// Gives every rank the completions of all: they are small beside the work of generating them.
void share_completions(std::vector<Completion>& completions, Comm& dp) {
  if (dp.size() == 1) return;
  nlohmann::json own = nlohmann::json::array();
  for (size_t p = dp.rank(); p < completions.size(); p += dp.size()) {
    own.push_back({completions[p].ids, completions[p].stopped});
  }
  const std::vector<std::string> all = dp.all_gather_text(own.dump(), "completions");
  for (int r = 0; r < dp.size(); ++r) {
    const nlohmann::json theirs = nlohmann::json::parse(all[r]);
    for (size_t i = 0; i < theirs.size(); ++i) {
      completions[r + i * dp.size()] = {theirs[i][0].get<std::vector<int64_t>>(),
                                        theirs[i][1].get<bool>()};
    }
  }
}

}  // namespace

std::set<int64_t> stop_ids(const ModelSource& source) {
  std::set<int64_t> ids = end_tokens(source.directory);
  for (const Overlay& adapter : source.adapters) ids.merge(adapter.end_tokens());
  return ids;
}

GenerationResult generate(const Session& session, std::span<const std::vector<int64_t>> prompts,
                          const std::set<int64_t>& stop, const GenerateOptions& options,
                          const GenerationWatch* watch) {
  at::NoGradGuard no_grad;
  const auto begin = std::chrono::steady_clock::now();
  check_prompts(prompts, session.source().info.vocab_size);
  Comm& world = session.parallel().world();
  Generator generator(session, prompts, stop, options);
  Progress progress("generate", static_cast<int64_t>(prompts.size()), "prompts", world.rank() == 0);
  for (;;) {
    int64_t most[] = {generator.has_work(), stop_signal(), watch && watch->ends()};
    world.all_reduce(std::span<int64_t>(most), ReduceOp::kMax, "generation goes on");
    if (most[0] == 0 || most[2] != 0) break;
    if (most[1] != 0) {
      leave(static_cast<int>(most[1]),
            "while generating. Nothing is written; the same command starts it again");
    }
    generator.step();
    if (watch && world.rank() == 0) watch->on_token(generator.completions().front());
    progress.set(generator.ended_share(static_cast<int64_t>(prompts.size())));
  }
  GenerationResult result;
  result.completions = std::move(generator.completions());
  share_completions(result.completions, session.parallel().dp_cp());
  for (const auto& prompt : prompts) result.prompt_tokens += static_cast<int64_t>(prompt.size());
  for (const Completion& completion : result.completions) {
    result.new_tokens += static_cast<int64_t>(completion.ids.size());
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace sutor
