#include "launch/verbs/plan_recipe.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "csrc/base/text/json.h"
#include "csrc/ops/device/gpu.h"
#include "csrc/ops/device/memory.h"
#include "launch/cli/layout_arguments.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/core_share.h"
#include "launch/log/metrics_log.h"
#include "launch/plan/plan_text.h"
#include "launch/preflight/memory_limit.h"
#include "recipes/recipe_reader.h"

namespace po = boost::program_options;
namespace fs = std::filesystem;

namespace sutor {
namespace {

nlohmann::json read_config(const fs::path& path) {
  const ParsedJson config = parse_json(read_model_config(path));
  if (config.value.is_object()) return config.value;
  fail(ErrorCode::kNoModel, "{}: config.json is no JSON object{}{}.", path.string(),
       config.problem.empty() ? "" : ": ", config.problem);
}

// A plan is for GPUs where the job would compute on them, as far as this machine and the command
// line tell.
bool is_for_gpu(const Recipe& recipe, const std::vector<ops::GpuInfo>& gpus, bool device_named) {
  if (recipe.device != "auto") return recipe.device == "cuda";
  return !gpus.empty() || device_named;
}

int threads_of(const Recipe& recipe, int world) {
  if (recipe.train.threads != "auto") return std::max(1, std::atoi(recipe.train.threads.c_str()));
  if (const char* asked = std::getenv("OMP_NUM_THREADS")) return std::max(1, std::atoi(asked));
  return std::max(1, usable_cores() / world);
}

DeviceMemory device_memory(const po::variables_map& values, bool gpu,
                           const std::vector<ops::GpuInfo>& gpus, int world) {
  if (values.count("device-memory")) {
    return {parse_bytes(values["device-memory"].as<std::string>(), "--device-memory"),
            "--device-memory"};
  }
  if (gpu) {
    if (gpus.empty()) {
      return {std::nullopt,
              "whether that fits is not known: no GPU is here, and --device-memory "
              "is not given"};
    }
    return {gpus.front().total_bytes, gpus.front().name};
  }
  const MemoryLimit own = own_memory_limit(), shared = shared_memory_limit();
  if (own.bytes < shared.bytes / world) return {own.bytes, own.what};
  return {shared.bytes / world,
          world == 1 ? shared.what
                     : fmt::format("{}, shared by {} ranks on this host", shared.what, world)};
}

std::optional<int64_t> free_disk(fs::path folder) {
  std::error_code error;
  folder = fs::absolute(folder, error);
  while (!error && !fs::exists(folder, error) && folder.has_relative_path()) {
    folder = folder.parent_path();
  }
  const fs::space_info space = fs::space(folder, error);
  if (error) return std::nullopt;
  return static_cast<int64_t>(space.available);
}

}  // namespace

void add_plan_recipe_options(po::options_description& options) {
  auto add = options.add_options();
  add("ranks", po::value<int>()->default_value(0),
      "ranks of the job; 0 = the fewest that the recipe's layout allows");
  add("device-memory", po::value<std::string>(),
      "memory of a rank's device, as 24GiB (with device: auto, a GPU's); else that of this "
      "machine");
  add("measured", po::value<std::string>(),
      "a rate for the time: the folder of a run, its metrics.jsonl, or tokens a second");
  add("model-config", po::value<std::string>(),
      "a config.json, where the model itself is not on this machine");
}

int plan_recipe(const po::variables_map& values) {
  ops::install_counting_allocator();
  const Recipe recipe = recipe_from(values);
  require_optimizer_dtype(recipe);
  const fs::path model = values.count("model-config")
                             ? fs::path(values["model-config"].as<std::string>())
                             : fs::path(recipe.model.path);
  const nlohmann::json config = read_config(model);
  const Family& family = family_of(config);
  const int asked = values["ranks"].as<int>();
  if (asked < 0) fail(ErrorCode::kBadArgument, "sutor plan: --ranks is {}.", asked);
  const int world = asked > 0 ? asked : smallest_world(recipe.parallel);
  std::string ignored;
  const std::vector<ops::GpuInfo> gpus = ops::visible_gpus(&ignored);
  const bool gpu = is_for_gpu(recipe, gpus, values.count("device-memory") > 0);
  const PlanBasis basis{.recipe = recipe,
                        .config = config,
                        .family = family,
                        .model = family.info(config),
                        .world = world,
                        .threads = threads_of(recipe, world),
                        .gpu = gpu};
  std::optional<MeasuredRate> rate;
  if (values.count("measured")) rate = measured_rate(values["measured"].as<std::string>());
  const RunPlan plan = make_run_plan(basis);
  PlanReport report{.basis = basis,
                    .plan = plan,
                    .memory = device_memory(values, gpu, gpus, world),
                    .rate = rate ? rate : own_rate(recipe.output),
                    .disk_free = free_disk(recipe.output)};
  report.fits = !report.memory.bytes || needed_bytes(plan, recipe, gpu) <= *report.memory.bytes;
  if (report.fits) {
    report.advice = layout_proposal(basis, report.memory);
  } else if (const auto fit = smallest_change(basis, *report.memory.bytes)) {
    report.advice = fmt::format("the smallest change that fits: {} (then {})", fit->change,
                                format_bytes(fit->bytes));
  } else {
    report.advice =
        "no change of train.micro_batch, train.recompute, optim.name and parallel.ep makes it fit: "
        "shorten data.seq_len, train fewer experts, or use devices with more memory";
  }
  if (values["json"].as<bool>()) {
    fmt::print("{}\n", plan_json(report).dump());
  } else {
    fmt::print("{}", plan_text(report));
  }
  return report.fits ? kExitOk : kExitCheckFailed;
}

}  // namespace sutor
