// The board of a job in torch's own key-value store over TCP, the one that torchrun keeps for its
// processes.
#pragma once

#include <memory>

#include "launch/torchrun/board.h"
#include "launch/torchrun/torch_environment.h"

namespace sutor {

// Opens the store (rank 0, where torchrun has none) or connects to it, for at most so many seconds;
// says so when it waits for long. Throws E0240 when the port cannot be opened or is no store, E0602
// when nobody is there.
std::shared_ptr<Board> open_store_board(const TorchEnvironment& torch, double seconds);

}  // namespace sutor
