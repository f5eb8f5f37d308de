// A communicator for dry runs: one rank of many, alone in its process. It moves nothing and waits
// for nobody; numbers on the host come back as if every other rank did as this one does. It counts
// what the rank would send.
#pragma once

#include <memory>

#include "csrc/comm/comm.h"
#include "parallel_state/layout/rank_layout.h"

namespace sutor {

// Bytes that leave the rank, by rings where all ranks take part in a sum or a gathering.
struct PlannedTraffic {
  double bytes = 0;
};

// The world of `layout`, as rank `rank` has it. peer_tokens: what each other rank has to dispatch,
// over what this one has. Both references must outlive it and its subgroups.
std::unique_ptr<Comm> make_planned_comm(const RankLayout& layout, int rank, double peer_tokens,
                                        PlannedTraffic& traffic);

}  // namespace sutor
