// GPUs, against the ranks that are to have one each.
#include <fmt/format.h>

#include "csrc/ops/device/gpu.h"
#include "launch/doctor/checks.h"
#include "launch/log/metrics_log.h"

namespace sutor {

Findings check_devices(int ranks_on_node) {
  if (ops::cuda_versions().empty()) {
    return {{"devices", Grade::kOk,
             "computes on the CPU (built without CUDA: `bash tools/setup.sh --cuda` builds with)",
             ""}};
  }
  std::string why;
  const std::vector<ops::GpuInfo> gpus = ops::visible_gpus(&why);
  if (gpus.empty()) {
    return {{"devices", Grade::kNote, "no GPU: " + (why.empty() ? "none is visible" : why),
             "on a machine with GPUs: is the driver loaded (nvidia-smi), and does the job have any "
             "(srun --gpus-per-task=1, CUDA_VISIBLE_DEVICES)? Without, sutor uses the CPU"}};
  }
  std::string text;
  for (size_t i = 0; i < gpus.size(); ++i) {
    text += fmt::format("{}cuda:{} {} ({})", i == 0 ? "" : ", ", i, gpus[i].name,
                        format_bytes(gpus[i].total_bytes));
  }
  // srun may show each rank its own one: then one is right.
  if (gpus.size() > 1 && static_cast<int>(gpus.size()) < ranks_on_node) {
    return {{"devices", Grade::kFailed,
             fmt::format("{}: {} GPUs for {} ranks on this host", text, gpus.size(), ranks_on_node),
             "start one rank a GPU"}};
  }
  return {{"devices", Grade::kOk, text, ""}};
}

}  // namespace sutor
