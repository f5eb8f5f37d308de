# What SUTOR_CUDA=ON adds to a build: nvcc for the kernels, and torch's libraries for CUDA with those
# that they load. nvcc comes from SUTOR_CUDA_ROOT, else from the wheels in .venv, which
# `tools/setup.sh --cuda` installs; the libraries from the wheels beside torch, or SUTOR_CUDA_ROOT.

set(SUTOR_CUDA_ARCHITECTURES 80 90a 90-virtual CACHE STRING
  "GPUs that kernels are compiled for; N-virtual: in PTX, for those that come after N")

find_program(nvcc nvcc PATHS ${cuda_roots} PATH_SUFFIXES bin NO_DEFAULT_PATH NO_CACHE)
if(NOT nvcc)
  message(FATAL_ERROR
    "SUTOR_CUDA=ON: nvcc was not found (run tools/setup.sh --cuda, or set SUTOR_CUDA_ROOT).")
endif()
get_filename_component(nvcc_root ${nvcc} DIRECTORY)
get_filename_component(nvcc_root ${nvcc_root} DIRECTORY)
# The wheels have lib/ where nvcc looks for lib64/, and CMake's test of the compiler links a program.
set(CMAKE_CUDA_FLAGS "-L${nvcc_root}/lib" CACHE STRING "Flags of nvcc")
set(CMAKE_CUDA_COMPILER ${nvcc})
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
set(CMAKE_CUDA_ARCHITECTURES OFF)  # they are flags below: CMake 3.25 does not know 90a
enable_language(CUDA)
foreach(config DEBUG RELEASE RELWITHDEBINFO)
  # Without NDEBUG ptxas may make wgmma instructions wait for each other.
  set(CMAKE_CUDA_FLAGS_${config} "-O3 -DNDEBUG -lineinfo")
endforeach()
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # nor that nvcc has C++20
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)

# What libtorch_cuda.so loads at the start of the program.
file(GLOB cuda_folders ${site_packages}/nvidia/*/lib)
if(SUTOR_CUDA_ROOT)
  list(APPEND cuda_folders ${SUTOR_CUDA_ROOT}/lib ${SUTOR_CUDA_ROOT}/lib64)
endif()
foreach(name cublas.so.13 cublasLt.so.13 cudart.so.13 cudnn.so.9 cufft.so.12 cufile.so.0 curand.so.10
    cusparse.so.12 cusparseLt.so.0 nccl.so.2 nvshmem_host.so.3)
  find_file(found lib${name} PATHS ${cuda_folders} NO_DEFAULT_PATH NO_CACHE)
  if(NOT found)
    string(APPEND missing " lib${name}")
  endif()
  unset(found)
endforeach()
if(missing)
  message(FATAL_ERROR "SUTOR_CUDA=ON: LibTorch needs${missing}, not found (run tools/setup.sh --cuda).")
endif()

target_include_directories(sutor_torch SYSTEM INTERFACE ${cuda_include})
# Named although nothing calls it by name: it registers what torch does on a GPU when it is loaded.
target_link_libraries(sutor_torch INTERFACE
  -Wl,--no-as-needed ${torch_dir}/lib/libtorch_cuda.so -Wl,--as-needed ${torch_dir}/lib/libc10_cuda.so ${cudart})
foreach(folder ${cuda_folders})
  target_link_options(sutor_torch INTERFACE -Wl,-rpath,${folder} -Wl,-rpath-link,${folder})
endforeach()

# sutor_cuda_kernels(NAME SOURCE.cu ...): kernels and their launchers, which do not see torch. What
# nvcc says of each is kept beside its object, in OBJECT.ptxas.
function(sutor_cuda_kernels name)
  add_library(${name} STATIC ${ARGN})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES OFF CUDA_RUNTIME_LIBRARY None
    CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/cmake/keep_ptxas_output.sh)
  target_compile_options(${name} PRIVATE --ptxas-options=-v
    -Xcompiler=-Wall,-Wextra,-Wno-unused-parameter,-Wno-missing-field-initializers)
  if(SUTOR_WERROR)
    target_compile_options(${name} PRIVATE -Werror=all-warnings)
  endif()
  foreach(architecture ${SUTOR_CUDA_ARCHITECTURES})
    if(architecture MATCHES "^(.+)-virtual$")
      set(code compute_${CMAKE_MATCH_1})
      set(architecture ${CMAKE_MATCH_1})
    else()
      set(code sm_${architecture})
    endif()
    target_compile_options(${name} PRIVATE -gencode=arch=compute_${architecture},code=${code})
  endforeach()
endfunction()
