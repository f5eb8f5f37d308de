// The main function of the tests that only need communication, built without torch.
#include "mpi_world.h"

int main(int argc, char** argv) { return sutor::run_mpi_tests(argc, argv); }
