# Helpers that keep each folder's CMakeLists.txt to its source list.

add_library(sutor_flags INTERFACE)
target_include_directories(sutor_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(sutor_flags INTERFACE -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
  -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
if(SUTOR_WERROR)
  target_compile_options(sutor_flags INTERFACE -Werror)
endif()
if(SUTOR_SANITIZE)
  target_compile_options(sutor_flags INTERFACE -fsanitize=${SUTOR_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(sutor_flags INTERFACE -fsanitize=${SUTOR_SANITIZE})
endif()
if(SUTOR_FUZZ)
  target_compile_options(sutor_flags INTERFACE -fno-sanitize-recover=all)
endif()

# Headers that most files take a large part of their time to read: compiled once for the files that
# see torch, and once for those that do not. Targets that share one carry the same flags.
set(heavy_headers <algorithm> <filesystem> <functional> <map> <memory> <optional> <string> <vector>
  <fmt/format.h> <nlohmann/json.hpp>)
set(heavy_torch_headers <ATen/core/Tensor.h> <ATen/Parallel.h>)
function(sutor_pch name flags)
  file(WRITE ${CMAKE_BINARY_DIR}/${name}.cc "// The precompiled header is built for this file.\n")
  add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/${name}.cc)
  target_link_libraries(${name} PRIVATE ${flags} nlohmann_json::nlohmann_json)
  target_precompile_headers(${name} PRIVATE ${ARGN} ${heavy_headers})
endfunction()

# Flags of every file that does not see torch.
add_library(sutor_plain_flags INTERFACE)
target_link_libraries(sutor_plain_flags INTERFACE sutor_flags ${fmt_library})
target_compile_options(sutor_plain_flags INTERFACE -Winvalid-pch)

# Flags of every file that sees torch.
add_library(sutor_torch_flags INTERFACE)
target_link_libraries(sutor_torch_flags INTERFACE sutor_flags sutor_torch OpenMP::OpenMP_CXX)
target_compile_options(sutor_torch_flags INTERFACE -Winvalid-pch)
target_compile_definitions(sutor_torch_flags INTERFACE SUTOR_WITH_CUDA=$<BOOL:${SUTOR_CUDA}>)
if(SUTOR_PCH)
  sutor_pch(sutor_torch_pch sutor_torch_flags ${heavy_torch_headers})
  sutor_pch(sutor_plain_pch sutor_plain_flags)
endif()

# sutor_library(NAME [TORCH] SOURCES ... [DEPENDS ...]): a static library of one folder.
function(sutor_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  sutor_target(${name} "${ARG_TORCH}" "" ${ARG_DEPENDS})
endfunction()

# sutor_program(NAME [TORCH] [PCH SUFFIX] SOURCES ... [DEPENDS ...]). SUFFIX names the precompiled
# headers of programs with flags of their own (cmake/tests.cmake).
function(sutor_program name)
  cmake_parse_arguments(ARG "TORCH" "PCH" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_compile_options(${name} PRIVATE -fPIC)  # as the precompiled header was built
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  sutor_target(${name} "${ARG_TORCH}" "${ARG_PCH}" ${ARG_DEPENDS})
endfunction()

function(sutor_target name torch pch_suffix)
  set(kind plain)
  if(torch)
    set(kind torch)
  endif()
  target_link_libraries(${name} PUBLIC sutor_${kind}_flags ${ARGN})
  if(SUTOR_PCH)
    target_precompile_headers(${name} REUSE_FROM sutor_${kind}_pch${pch_suffix})
  endif()
endfunction()
