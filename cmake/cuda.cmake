# CUDA's run-time library and NCCL, for communication between GPUs: from SUTOR_CUDA_ROOT and
# SUTOR_NCCL_ROOT (folders with include/ and lib/), else from the wheels in .venv, which
# `tools/setup.sh --tests` installs. They need no CUDA compiler: only functions of the host are called.
# What SUTOR_CUDA=ON needs besides is in cuda_kernels.cmake.
#
# Sets SUTOR_NCCL_FOUND, or SUTOR_NCCL_MISSING to the reason. Targets: sutor_nccl_headers, and
# sutor_nccl with the libraries.

option(SUTOR_CUDA "Train on GPUs: kernels by nvcc, communication by NCCL" OFF)
set(SUTOR_CUDA_ROOT "" CACHE PATH "Folder of the CUDA toolkit; empty = the wheels in .venv")
set(SUTOR_NCCL_ROOT "" CACHE PATH "Folder of NCCL; empty = the wheel in .venv")

file(GLOB nvidia_wheels ${CMAKE_CURRENT_LIST_DIR}/../.venv/lib/python3*/site-packages/nvidia)
set(cuda_roots ${SUTOR_CUDA_ROOT})
set(nccl_roots ${SUTOR_NCCL_ROOT})
if(NOT SUTOR_CUDA_ROOT)
  list(TRANSFORM nvidia_wheels APPEND /cu13 OUTPUT_VARIABLE cuda_roots)
endif()
if(NOT SUTOR_NCCL_ROOT)
  list(TRANSFORM nvidia_wheels APPEND /nccl OUTPUT_VARIABLE nccl_roots)
endif()
foreach(file cuda_runtime.h crt/host_config.h nv/target)
  find_path(found ${file} PATHS ${cuda_roots} PATH_SUFFIXES include NO_DEFAULT_PATH NO_CACHE)
  if(NOT found)
    string(APPEND SUTOR_NCCL_MISSING "${file} ")
  else()
    set(cuda_include ${found})
  endif()
  unset(found)
endforeach()
find_path(nccl_include nccl.h PATHS ${nccl_roots} PATH_SUFFIXES include NO_DEFAULT_PATH NO_CACHE)
find_library(cudart NAMES libcudart.so.13 libcudart.so PATHS ${cuda_roots} PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH
  NO_CACHE)
find_library(nccl NAMES libnccl.so.2 libnccl.so PATHS ${nccl_roots} PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH NO_CACHE)
foreach(item nccl_include cudart nccl)
  if(NOT ${item})
    string(APPEND SUTOR_NCCL_MISSING "${item} ")
  endif()
endforeach()

if(SUTOR_NCCL_MISSING)
  string(REPLACE nccl_include nccl.h SUTOR_NCCL_MISSING "${SUTOR_NCCL_MISSING}")
  string(STRIP "${SUTOR_NCCL_MISSING}" SUTOR_NCCL_MISSING)
  string(APPEND SUTOR_NCCL_MISSING
    " not found (run tools/setup.sh --cuda or --tests, or set SUTOR_CUDA_ROOT and SUTOR_NCCL_ROOT)")
  set(SUTOR_NCCL_FOUND FALSE)
  if(SUTOR_CUDA)
    message(FATAL_ERROR "SUTOR_CUDA=ON: ${SUTOR_NCCL_MISSING}.")
  endif()
else()
  set(SUTOR_NCCL_FOUND TRUE)
  add_library(sutor_nccl_headers INTERFACE)
  target_include_directories(sutor_nccl_headers SYSTEM INTERFACE ${cuda_include} ${nccl_include})
  add_library(sutor_nccl INTERFACE)
  get_filename_component(cudart_folder ${cudart} DIRECTORY)
  get_filename_component(nccl_folder ${nccl} DIRECTORY)
  target_link_libraries(sutor_nccl INTERFACE sutor_nccl_headers ${nccl} ${cudart})
  target_link_options(sutor_nccl INTERFACE -Wl,-rpath,${nccl_folder} -Wl,-rpath,${cudart_folder})
endif()
