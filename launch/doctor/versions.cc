// Versions of what the program is made of.
#include <ATen/Version.h>
#include <fmt/format.h>
#include <hdf5.h>
#include <torch/headeronly/version.h>

#include <thread>

#include "csrc/comm/mpi/mpi_version.h"
#include "csrc/ops/device/gpu.h"
#include "launch/cli/provenance.h"
#include "launch/doctor/checks.h"

namespace sutor {
namespace {

Finding hdf5_finding() {
  unsigned major = 0, minor = 0, release = 0;
  if (H5get_libversion(&major, &minor, &release) < 0) {
    return {"HDF5", Grade::kFailed, "the library does not say its version",
            "install it again (Debian: libhdf5-103-1)"};
  }
  const std::string library = fmt::format("{}.{}.{}", major, minor, release);
  const std::string headers =
      fmt::format("{}.{}.{}", H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
  hbool_t threads = false;
  H5is_library_threadsafe(&threads);
  const std::string text = fmt::format("HDF5 {}{}", library, threads ? ", safe for threads" : "");
  if (library == headers) return {"HDF5", Grade::kOk, text, ""};
  // The library itself ends programs over another minor release.
  return {"HDF5", major == H5_VERS_MAJOR && minor == H5_VERS_MINOR ? Grade::kNote : Grade::kFailed,
          fmt::format("{}, but sutor was compiled with the headers of {}", text, headers),
          "another HDF5 is found before that of the build: look at LD_LIBRARY_PATH and loaded "
          "modules, or build sutor again"};
}

}  // namespace

Findings check_versions() {
  const std::string cuda = ops::cuda_versions();
  Findings findings = {
      {"build", Grade::kOk, fmt::format("{}, C++ {}", version_text(), __VERSION__), ""},
      {"LibTorch", Grade::kOk,
       fmt::format("LibTorch {}, {}", TORCH_VERSION, cuda.empty() ? "built without CUDA" : cuda),
       ""},
      {"MPI", Grade::kOk, mpi_version(), ""}};
  findings.push_back(hdf5_finding());
  return findings;
}

}  // namespace sutor
