// The checks of `sutor doctor`, a file each. Those of a process may hang and are run with a limit;
// those of all ranks are collective over the world, and the watchdog limits them.
#pragma once

#include <filesystem>

#include "csrc/comm/comm.h"
#include "launch/doctor/finding.h"
#include "launch/job/launcher.h"

namespace sutor {

// versions.cc: sutor, LibTorch, MPI, HDF5 (headers and library), CUDA and NCCL.
Findings check_versions();
// cpu.cc: the CPU, its instructions, what sutor and torch use of them, cores and memory.
Findings check_cpu();
// devices.cc: the GPUs that this process sees, against the ranks that share them.
Findings check_devices(int ranks_on_node);
// python.cc: the interpreter of the Python steps and its packages.
Findings check_python();
// launcher.cc: who started this process, and whether as many ranks see each other as were started.
// world: how many do.
Findings check_launcher(const Environment& environment, int world);
// The same for a start in which no rank can find another: the message of detect_launcher().
Findings unconnected(const std::string& message);
// communication.cc: sums and texts around all ranks over MPI, and over NCCL where ranks have GPUs.
Findings check_communication(Comm& world);
// folder.cc: rights, space, rate, locks, clock and HDF5 in a folder. One process's.
Findings check_folder(const std::filesystem::path& folder);
// shared.cc: whether all ranks see in the folder what rank 0 writes there.
Findings check_shared(const std::filesystem::path& folder, Comm& world);

// The folder, or the nearest one above it that is there.
std::filesystem::path existing_folder(const std::filesystem::path& folder);

}  // namespace sutor
