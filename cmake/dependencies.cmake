# Everything that sutor links: Debian packages, and LibTorch from the project's own .venv.

find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
find_package(MPI REQUIRED COMPONENTS C)
if(SUTOR_FUZZ)  # what sees torch is not built
  add_library(OpenMP::OpenMP_CXX INTERFACE IMPORTED)
else()
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()
find_package(PkgConfig REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(YAMLCPP REQUIRED IMPORTED_TARGET yaml-cpp)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5)
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)

# Two versions of fmt, in namespaces of their own: Debian's in files that do not see torch, the one
# that torch's headers bring (compiled in csrc/ops/torch_fmt.cc) in those that do. Linked by its path:
# the imported target would also define a macro for both.
find_package(fmt REQUIRED)
get_target_property(fmt_library fmt::fmt LOCATION)

# LibTorch: the CPU half of the wheel. Its own TorchConfig.cmake wants a CUDA toolkit; a program that
# only needs the CPU does not.
set(SUTOR_TORCH_DIR "" CACHE PATH "The wheel's torch folder; empty = the one in .venv")
if(NOT SUTOR_TORCH_DIR)
  file(GLOB torch_dirs ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  if(NOT torch_dirs)
    message(FATAL_ERROR "LibTorch was not found under .venv. Run tools/setup.sh, or set SUTOR_TORCH_DIR.")
  endif()
  list(GET torch_dirs 0 torch_dir)
else()
  set(torch_dir ${SUTOR_TORCH_DIR})
endif()
get_filename_component(site_packages ${torch_dir} DIRECTORY)
add_library(sutor_torch INTERFACE)
target_include_directories(sutor_torch SYSTEM INTERFACE
  ${torch_dir}/include ${torch_dir}/include/torch/csrc/api/include)
target_link_libraries(sutor_torch INTERFACE ${torch_dir}/lib/libtorch_cpu.so ${torch_dir}/lib/libc10.so)
target_link_options(sutor_torch INTERFACE -Wl,-rpath,${torch_dir}/lib
  -Wl,-rpath-link,${site_packages}/nvidia/cu13/lib)
