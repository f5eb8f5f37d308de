// NcclComm: the collectives of Comm over NCCL, one GPU per rank. Another communicator (MPI) is the
// control plane: it carries NCCL's ids, barriers and failures, never tensors.
#pragma once

#include <memory>

#include "csrc/comm/comm.h"

namespace sutor {

// Collective over `control`, which must outlive the result and its subgroups. Takes a GPU for this
// rank and makes it the thread's current device: the only visible one, or the one whose number is
// the rank's among the ranks of its host. Throws E0605 when there is none or NCCL does not start,
// E0606 when sutor was built without NCCL.
//
// Data may be in host memory, as everywhere with Comm, or in memory of this GPU, which is used
// without a copy; ranks may differ in that.
//   Host memory is staged through a buffer on the GPU that grows to the longest message and is
//   kept: meant for numbers and texts, not for weights. The call is complete on return.
//   Device memory is used in stream order. The communicator and its subgroups share one stream,
//   which is ordered with CUDA's default stream as a blocking stream is: work that the default
//   stream got before a call is done before it, work that it gets later is done after it. Users of
//   other, non-blocking streams have to synchronise them. One stream for all groups keeps the
//   operations on every GPU in the order of the calls, as NCCL demands; that order is the same on
//   all ranks.
//   A send has a stream and a thread of its own, so that neither the caller nor the default stream
//   waits for the receiver. Until the data have left, cudaFree and other calls that wait for the
//   whole GPU wait for the receiver too.
// barrier() also waits for all operations of this rank except sends. Sums of floats are taken in an
// order fixed by the ranks, their connections and the number of elements.
std::unique_ptr<Comm> make_nccl_comm(Comm& control);

}  // namespace sutor
