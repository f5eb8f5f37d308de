#include "csrc/ops/device/planned_device.h"

namespace sutor::ops {
namespace {
bool for_gpu = false;
}

void plan_for_gpu(bool gpu) { for_gpu = gpu; }
bool is_planned_for_gpu() { return for_gpu; }

}  // namespace sutor::ops
