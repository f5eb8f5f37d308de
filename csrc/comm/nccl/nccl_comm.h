// NcclComm: a Comm of two worlds. What lies in the memory of GPUs goes over NCCL, one GPU a rank;
// what lies in host memory goes over another communicator (MPI), the control communicator, which
// also carries NCCL's ids, barriers and failures.
#pragma once

#include <memory>

#include "csrc/comm/comm.h"
#include "csrc/comm/nccl/device_hooks.h"

namespace sutor {

// Collective over `control`: chooses this rank's GPU (local_device.h), makes it the thread's
// current device and returns its index. Throws E0612 when there are more ranks than GPUs, E0613 in
// a build without NCCL.
int take_device(Comm& control);

// Collective over `control`, which must outlive the result and its subgroups. `device`: of
// take_device().
//
// The pointer decides the world of an operation, and all its ranks must decide alike, the two of a
// message too. Without bytes it is the control communicator, which does nothing then. Three
// operations may have nothing on some ranks only:
//   all_to_all of device memory: a rank that sends and receives nothing may pass null; it does
//     nothing, as NCCL expects. So an all_to_all of host memory has rows on every rank: exchange
//     counts, one or more for each rank.
//   reduce_scatter and all_gather: a rank's own chunk may be empty.
// One call never mixes both memories.
//
// Host memory: as the control communicator does it; complete on return. The GPU has no part in it.
// Device memory: in stream order. The operation begins when what the current stream
// (DeviceHooks::current_stream) got before the call is done, and what that gets later sees the
// result; the host does not wait. Work of other streams has to be ordered with the current one by
// its owner. NcclComm has no device memory of its own.
//   All groups of a process communicate on one stream, start_reduce_scatter too: NCCL's kernels
//   wait for their peers while they hold a part of the GPU, so two of them may block each other
//   when two GPUs run them in different orders. With one stream the order is that of the calls,
//   which is the same on all ranks; the journal checks it. What is started overlaps with computing,
//   and ends before the next operation begins.
//   A send has a stream and a thread of its own, because neighbours may send to each other at the
//   same time: neither the host nor the current stream waits for the receiver. Until the data have
//   left, cudaFree and other calls that wait for the whole GPU wait for the receiver too.
//   barrier() also waits for all operations of this rank except sends.
//   Sums of floats are taken in an order fixed by the ranks, their connections and the number of
//   elements.
//
// Failures: operations are in the journal until the GPU has done them, so the watchdog names what a
// rank waits in, and ends it there after SUTOR_COMM_TIMEOUT. An error that NCCL meets on the GPU is
// thrown by the group's next call (E0611), and a barrier gives up after the limit by itself
// (E0602). NCCL's communicators are in blocking mode: the other one starts a thread for every
// operation, and the watchdog ends a rank that is blocked inside NCCL as well. They end with the
// process.
std::unique_ptr<Comm> make_nccl_comm(Comm& control, int device, const DeviceHooks& hooks = {});

}  // namespace sutor
