// A communicator that passes everything to another one, with a journal, as MPI's has one. It fails
// the test when it gets device memory, and counts what it gets.
#pragma once

#include <memory>

#include "csrc/comm/comm.h"
#include "csrc/comm/journal.h"

namespace sutor::testing {

struct Records {
  explicit Records(int world_rank) : journal(world_rank) {}
  Journal journal;
  int64_t operations = 0;  // of all groups
};

// `comm` is that of all ranks and outlives the result; a group of one rank has no journal.
std::unique_ptr<Comm> recorded(Comm& comm, std::shared_ptr<Records> records);

}  // namespace sutor::testing
