// The communicator of the ranks that mpiexec started a test program with, and its main function.
#pragma once

#include "csrc/comm/comm.h"

namespace sutor {

Comm& test_world();

// GoogleTest over MPI: every rank runs every test; a failure on any rank fails the program.
int run_mpi_tests(int argc, char** argv);

}  // namespace sutor
