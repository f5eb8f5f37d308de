#include "csrc/comm/mpi/mpi_version.h"

#include <mpi.h>

#include <algorithm>

namespace sutor {

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "an MPI that has no version";
  std::string line(text, static_cast<size_t>(length));
  line = line.substr(0, line.find('\n'));
  std::replace(line.begin(), line.end(), '\t', ' ');
  return line;
}

}  // namespace sutor
