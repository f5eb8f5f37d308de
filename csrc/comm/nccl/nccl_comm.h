// NcclComm: the collectives of Comm over NCCL, one GPU a rank. Another communicator (MPI) is the
// control plane: it carries NCCL's ids, barriers and failures, never tensors.
#pragma once

#include <memory>

#include "csrc/comm/comm.h"

namespace sutor {

// Collective over `control`, which must outlive the result and its subgroups. Takes the GPU of this
// rank: the only visible one, or that of the rank's number among the ranks of its host; it becomes
// the thread's current device. Throws E0612 when there is none, E0611 when NCCL does not start,
// E0613 when sutor was built without NCCL.
//
// Data may lie in host memory, as everywhere with Comm, or in memory of this GPU, which is used
// without a copy; ranks may differ in that.
//   Host memory is staged through a buffer on the GPU that grows to the longest message and is
//   kept: meant for numbers and texts, not for weights. The call is complete on return.
//   Device memory is used in stream order. The communicator and its subgroups share one stream,
//   which is ordered with CUDA's default stream as a blocking stream is: what the default stream
//   was given before a call is done before it, what it is given after comes after it. Work on
//   other, non-blocking streams has to be synchronised by whoever uses them. One stream for all
//   groups keeps operations on every GPU in the order of the calls, as NCCL demands; which is the
//   same on all ranks.
//   A send leaves by a stream and a thread of its own, so that neither the caller nor the default
//   stream waits for the receiver. Until then cudaFree and other calls that wait for the whole GPU
//   wait for the receiver too.
// barrier() also waits for all operations of this rank but sends. Sums of floats are taken in an
// order fixed by the ranks, their connections and the number of elements.
std::unique_ptr<Comm> make_nccl_comm(Comm& control);

}  // namespace sutor
