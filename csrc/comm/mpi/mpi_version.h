// Which MPI library this is.
#pragma once

#include <string>

namespace sutor {

// "MPICH Version: 4.0.2"; may be called before MPI is initialised.
std::string mpi_version();

}  // namespace sutor
