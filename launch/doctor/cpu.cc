// The CPU: which instructions it has, and which of them are used.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "csrc/base/process/host.h"
#include "csrc/ops/cpu/kernel_level.h"
#include "launch/doctor/checks.h"
#include "launch/job/core_share.h"
#include "launch/log/metrics_log.h"

namespace sutor {
namespace {

// The value of the first line of /proc/cpuinfo with this name; empty where there is none.
std::string cpuinfo(const std::string& name) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(name)) continue;
    return line.size() > colon + 2 ? line.substr(colon + 2) : "";
  }
  return "";
}

std::string instructions() {
  std::istringstream flags(cpuinfo("flags"));
  std::string best = "no AVX2", bf16;
  for (std::string flag; flags >> flag;) {
    if (flag == "avx2" && best == "no AVX2") best = "AVX2";
    if (flag == "avx512f") best = "AVX-512";
    if (flag == "avx512_bf16") bf16 = " with BF16";
    if (flag == "amx_bf16") bf16 = " with AMX";
  }
  return best + bf16;
}

}  // namespace

Findings check_cpu() {
  const std::string model = cpuinfo("model name");
  return {{"CPU", Grade::kOk,
           fmt::format("{}, {}; sutor's kernels {}, torch's {}",
                       model.empty() ? "of unknown name" : model, instructions(),
                       ops::kernel_level(), at::get_cpu_capability()),
           ""},
          {"cores", Grade::kOk,
           fmt::format("{} usable by this process, {} threads; {} of memory available",
                       usable_cores(), at::get_num_threads(), format_bytes(available_memory())),
           ""}};
}

}  // namespace sutor
