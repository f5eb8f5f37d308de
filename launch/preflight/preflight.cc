#include "launch/preflight/preflight.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>

#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/partial_checkpoint.h"
#include "csrc/base/error.h"
#include "csrc/base/process/host.h"
#include "launch/job/agreement.h"
#include "launch/log/metrics_log.h"
#include "launch/preflight/memory_estimate.h"
#include "launch/preflight/memory_limit.h"
#include "launch/preflight/output_check.h"
#include "layers/optim/optimizer.h"

namespace sutor {
namespace {

OptimizerState declared_state(const Recipe& recipe) {
  return make_optimizer(recipe.optim, recipe.train.seed, {})->declared();
}

int64_t checkpoint_bytes(const TrainPlan& plan, const OptimizerState& state) {
  std::vector<IndexedTensor> tensors;
  for (const std::string& name : plan.trainable.names()) {
    tensors.push_back({name, plan.model.tensors.find(name)->shape});
  }
  return estimate_checkpoint_bytes(tensors, state.kinds);
}

// Those that will lie there at a time and are not there yet: kept, best, and one being written.
int64_t checkpoints_to_come(const Recipe& recipe, int64_t total_steps) {
  const int64_t every = recipe.checkpoint.every;
  const int64_t saves = (every > 0 ? total_steps / every : 0) + 1;
  const int64_t at_a_time = recipe.checkpoint.keep + (recipe.data.eval.empty() ? 1 : 2);
  const auto there =
      static_cast<int64_t>(list_checkpoints(RunPaths(recipe.output).checkpoints()).size());
  return std::max<int64_t>(1, std::min(saves, at_a_time) - there);
}

void check_space(const Recipe& recipe, const OutputReport& output, int64_t bytes,
                 int64_t total_steps) {
  const int64_t free = output.probe.free_bytes;
  if (free < 0) return;
  const std::string place = RunPaths(recipe.output).checkpoints().string();
  if (free < bytes) {
    fail(ErrorCode::kDiskFull,
         "{}: a checkpoint takes {} ({} bytes), but the disk has {} free. Free some space, choose "
         "another output, or train fewer experts.",
         place, format_bytes(bytes), bytes, format_bytes(free));
  }
  const int64_t count = checkpoints_to_come(recipe, total_steps);
  if (free / count >= bytes) return;
  fmt::print(
      stderr,
      "warning: {}: {} checkpoints of {} will lie there at a time, {} together, but the disk "
      "has {} free: saving will fail later. Lower checkpoint.keep (now {}), or free some "
      "space.\n",
      place, count, format_bytes(bytes), format_bytes(count * bytes), format_bytes(free),
      recipe.checkpoint.keep);
}

void check_disk(const Recipe& recipe, const TrainPlan& plan, const OptimizerState& state,
                int64_t total_steps) {
  const OutputReport output = check_output(RunPaths(recipe.output));
  const int64_t bytes = checkpoint_bytes(plan, state);
  check_space(recipe, output, bytes, total_steps);
  const std::vector<std::string>& lacks = output.probe.lacks;
  fmt::print("output   {} on {}: {} free; a checkpoint takes {}, {} are kept{}\n", recipe.output,
             output.probe.file_system,
             output.probe.free_bytes < 0 ? "unknown space" : format_bytes(output.probe.free_bytes),
             format_bytes(bytes), recipe.checkpoint.keep,
             lacks.empty()
                 ? ""
                 : fmt::format("; lacks {}, which is done in other ways", fmt::join(lacks, ", ")));
}

struct RankNeed {
  std::string host;
  int64_t bytes = 0;
};

// Of all ranks. Collective.
std::vector<RankNeed> gather_needs(int64_t bytes, Comm& world) {
  std::vector<RankNeed> needs;
  const std::string mine = fmt::format("{} {}", bytes, host_name());
  for (const std::string& text : world.all_gather_text(mine, "memory that is needed")) {
    RankNeed& need = needs.emplace_back();
    std::istringstream(text) >> need.bytes >> need.host;
  }
  return needs;
}

// `needs`: of all ranks.
void check_memory(const Recipe& recipe, const MemoryEstimate& mine,
                  const std::vector<RankNeed>& needs) {
  int64_t on_host = 0, ranks = 0;
  for (const RankNeed& need : needs) {
    if (need.host != host_name()) continue;
    on_host += need.bytes;
    ++ranks;
  }
  const MemoryLimit own = own_memory_limit(), shared = shared_memory_limit();
  const bool too_large = mine.total() > own.bytes;
  if (!too_large && on_host <= shared.bytes) return;
  const MemoryLimit& limit = too_large ? own : shared;
  fail(ErrorCode::kOutOfMemory,
       "out of memory before the start: this rank needs {} at least ({} of frozen weights, {} of "
       "trained weights and gradients, {} of optimizer state, without activations){}, but {} "
       "leaves {}. What makes it fit: {}fewer trained experts (esft.select.top_p), more ranks "
       "(parallel.ep, parallel.pp), or a host with more memory.",
       format_bytes(mine.total()), format_bytes(mine.frozen), format_bytes(mine.trained),
       format_bytes(mine.optimizer),
       too_large || ranks == 1
           ? ""
           : fmt::format(" and the {} ranks of this host {}", ranks, format_bytes(on_host)),
       limit.what, format_bytes(limit.bytes),
       recipe.model.dtype == "fp32" ? "model.dtype: bf16, " : "");
}

}  // namespace

void preflight(const Recipe& recipe, const TrainPlan& plan, const SessionOptions& session,
               int64_t total_steps, Comm& world) {
  const OptimizerState state = declared_state(recipe);
  on_rank_0(world, "preflight of the disk", [&] { check_disk(recipe, plan, state, total_steps); });
  if (!session.device.is_cpu()) return;
  const MemoryEstimate mine =
      estimate_memory(recipe, plan, state, session.expert_ranks, world.rank(), world.size());
  const std::vector<RankNeed> needs = gather_needs(mine.total(), world);
  agree(world, problem_of([&] { check_memory(recipe, mine, needs); }), "preflight of memory");
}

}  // namespace sutor
