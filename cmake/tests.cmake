# Programs of GoogleTest: flags and precompiled headers of their own, and the unit tests' ctest entries.

# Half of the build is the tests. -O1 compiles them in about half of the time that -O2 takes; what
# they test is compiled as ever.
add_library(sutor_test_flags INTERFACE)
target_compile_options(sutor_test_flags INTERFACE -O1)
target_link_libraries(sutor_test_flags INTERFACE GTest::gtest)
foreach(kind torch plain)
  add_library(sutor_${kind}_test_flags INTERFACE)
  target_link_libraries(sutor_${kind}_test_flags INTERFACE sutor_${kind}_flags sutor_test_flags)
endforeach()
if(SUTOR_PCH)
  sutor_pch(sutor_torch_pch_of_tests sutor_torch_test_flags ${heavy_torch_headers} <gtest/gtest.h>)
  sutor_pch(sutor_plain_pch_of_tests sutor_plain_test_flags <gtest/gtest.h>)
endif()

# sutor_test_program(NAME [TORCH] SOURCES ... [DEPENDS ...])
function(sutor_test_program name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPENDS" ${ARGN})
  set(torch)
  if(ARG_TORCH)
    set(torch TORCH)
  endif()
  sutor_program(${name} ${torch} PCH _of_tests SOURCES ${ARG_SOURCES} DEPENDS ${ARG_DEPENDS} sutor_test_flags)
  target_compile_definitions(${name} PRIVATE SUTOR_TEST_DATA="${PROJECT_SOURCE_DIR}/tests")
endfunction()

# sutor_unit_test(NAME [TORCH] SOURCES ... [DEPENDS ...]): a GoogleTest program, one ctest entry. With
# SUTOR_UNITY its files are compiled eight at a time (those that would collide: SKIP_UNITY_BUILD_INCLUSION).
function(sutor_unit_test name)
  sutor_test_program(${name} ${ARGN})
  target_link_libraries(${name} PUBLIC GTest::gtest_main)
  set_target_properties(${name} PROPERTIES UNITY_BUILD ${SUTOR_UNITY} UNITY_BUILD_BATCH_SIZE 8)
  add_test(NAME unit.${name} COMMAND ${name})
  set_tests_properties(unit.${name} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()
