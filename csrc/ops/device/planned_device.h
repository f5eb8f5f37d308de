// For which device a dry run is made: its tensors without values (memory.h) do not say.
#pragma once

namespace sutor::ops {

// Whether they stand for those of a GPU, whose operators make other tensors than the CPU's. One
// thread makes dry runs.
void plan_for_gpu(bool gpu);
bool is_planned_for_gpu();

}  // namespace sutor::ops
