// Takes the place of nccl_comm.cc in builds without NCCL.
#include "csrc/base/error.h"
#include "csrc/comm/nccl/nccl_comm.h"

namespace sutor {

std::unique_ptr<Comm> make_nccl_comm(Comm&) {
  fail(ErrorCode::kNoNccl,
       "communication between GPUs was asked for, but sutor was built without NCCL: configure with "
       "-DSUTOR_CUDA=ON.");
}

}  // namespace sutor
