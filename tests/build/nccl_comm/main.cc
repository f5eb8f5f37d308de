// One rank that sums over itself by NCCL.
#include <fmt/format.h>

#include "csrc/base/error.h"
#include "csrc/comm/nccl/nccl_comm.h"

int main() {
  try {
    const auto control = sutor::make_self_comm();
    const auto comm = sutor::make_nccl_comm(*control, sutor::take_device(*control));
    float one = 1;
    comm->all_reduce(std::span(&one, 1), sutor::ReduceOp::kSum, "sum");
    fmt::print("sum {} of {} rank\n", one, comm->size());
    return 0;
  } catch (const sutor::Error& error) {
    fmt::print("{}\n", error.report());
    return error.exit_code();
  }
}
