// The tests over MPI that need torch.
#include <ATen/Parallel.h>

#include "mpi_world.h"

int main(int argc, char** argv) {
  at::set_num_threads(1);
  return sutor::run_mpi_tests(argc, argv);
}
