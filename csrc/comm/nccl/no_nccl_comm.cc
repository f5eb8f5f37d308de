// Replaces the other files of this folder in builds without NCCL.
#include "csrc/base/error.h"
#include "csrc/comm/nccl/nccl_comm.h"

namespace sutor {
namespace {

[[noreturn]] void refuse() {
  fail(ErrorCode::kNoNccl,
       "communication between GPUs was asked for, but sutor was built without NCCL: configure with "
       "-DSUTOR_CUDA=ON.");
}

}  // namespace

int take_device(Comm&) { refuse(); }

std::unique_ptr<Comm> make_nccl_comm(Comm&, int, const DeviceHooks&) { refuse(); }

}  // namespace sutor
