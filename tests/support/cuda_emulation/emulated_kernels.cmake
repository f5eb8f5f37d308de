# sutor_emulated_kernels(NAME FOLDER SOURCE...): the kernels and headers of a folder as C++ for the
# host; the .cu files are compiled.
set(as_cxx ${CMAKE_CURRENT_LIST_DIR}/as_cxx.cmake)
function(sutor_emulated_kernels name folder)
  set(root ${CMAKE_CURRENT_BINARY_DIR}/${name})
  set(sources)
  foreach(file ${ARGN})
    set(from ${PROJECT_SOURCE_DIR}/${folder}/${file})
    set(to ${root}/${folder}/${file})
    if(file MATCHES "\\.cu$")
      string(APPEND to .cc)
    endif()
    add_custom_command(OUTPUT ${to} DEPENDS ${from} ${as_cxx}
      COMMAND ${CMAKE_COMMAND} -DFROM=${from} -DTO=${to} -P ${as_cxx} VERBATIM)
    list(APPEND sources ${to})
  endforeach()
  # Without the precompiled header: the emulation's macros come first.
  add_library(${name} OBJECT ${sources})
  target_link_libraries(${name} PRIVATE sutor_flags)
  target_include_directories(${name} BEFORE PRIVATE
    ${root} ${PROJECT_SOURCE_DIR}/tests/support/cuda_emulation)
  # Nothing is contracted, as in nvcc's build of adamw_bf16.cu; pragmas are nvcc's.
  target_compile_options(${name} PRIVATE -ffp-contract=off -Wno-unknown-pragmas)
endfunction()
