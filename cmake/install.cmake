# `cmake --install BUILD --prefix P`: a tree that can be moved. It holds
#   bin/sutor                        finds lib/ and share/sutor/ from where it is itself
#   lib/                             LibTorch, what it loads of CUDA, and small libraries
#   share/sutor/tools/, recipes/     the Python steps; ready recipes
#   share/sutor/venv/                the packages of the steps (SUTOR_INSTALL_VENV)
#   share/sutor/requirements.txt     the same packages as a list
#   share/sutor/system_libraries.txt what is left to the system: MPI, HDF5, the compiler's libraries
#   share/doc/sutor/, share/man/man1/, completion for bash and zsh
# MPI stays the system's, so that it fits the launcher there; HDF5, because much hangs on it.

option(SUTOR_INSTALL_VENV "Install the Python packages of the steps, too; else their list alone" ON)

install(PROGRAMS $<TARGET_FILE:sutor> DESTINATION bin)

file(WRITE ${CMAKE_BINARY_DIR}/install_values.cmake "\
set(sources \"${PROJECT_SOURCE_DIR}\")
set(venv \"${PROJECT_SOURCE_DIR}/.venv\")
set(site_packages \"${site_packages}\")
set(install_venv \"${SUTOR_INSTALL_VENV}\")
set(strip \"${CMAKE_STRIP}\")
")
install(CODE "include(\"${CMAKE_BINARY_DIR}/install_values.cmake\")")
install(CODE [[
  cmake_policy(VERSION 3.25)
  set(root "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}")
  set(program "${root}/bin/sutor")

  # What the program and its libraries load. The wheels' libraries look beside themselves.
  file(GET_RUNTIME_DEPENDENCIES EXECUTABLES "${program}" RESOLVED_DEPENDENCIES_VAR libraries
    UNRESOLVED_DEPENDENCIES_VAR missing CONFLICTING_DEPENDENCIES_PREFIX twice
    DIRECTORIES "${site_packages}/torch/lib" "${site_packages}/nvidia/cu13/lib"
    PRE_EXCLUDE_REGEXES "^lib(c|m|dl|rt|pthread|util|resolv)\\.so" "^ld-linux" "^libcuda\\.so" "^libnvidia-")
  if(missing)
    message(FATAL_ERROR "libraries of ${program} were not found: ${missing}")
  endif()
  foreach(name ${twice_FILENAMES})  # OpenMP's: LibTorch has one of its own
    list(APPEND libraries ${twice_${name}})
  endforeach()
  set(left "")
  set(taken "")
  foreach(library ${libraries})
    get_filename_component(name "${library}" NAME)
    string(FIND "${library}" "${site_packages}/" of_wheel)
    if(name IN_LIST taken)
      continue()
    elseif(of_wheel EQUAL 0 OR library MATCHES "/site-packages/" OR
        name MATCHES "^lib(boost_program_options|yaml-cpp|fmt|isal|xxhash|cudart|nccl)\\.so")
      file(INSTALL "${library}" DESTINATION "${CMAKE_INSTALL_PREFIX}/lib" FOLLOW_SYMLINK_CHAIN)
      list(APPEND taken "${name}")
    else()
      list(APPEND left "${name}")
    endif()
  endforeach()
  list(REMOVE_ITEM left ${taken})
  list(REMOVE_DUPLICATES left)
  list(SORT left)
  list(JOIN left "\n" text)
  file(WRITE "${root}/share/sutor/system_libraries.txt" "${text}\n")
  file(RPATH_SET FILE "${program}" NEW_RPATH "$ORIGIN/../lib")
  if(CMAKE_INSTALL_DO_STRIP)
    execute_process(COMMAND "${strip}" "${program}" COMMAND_ERROR_IS_FATAL ANY)
  endif()

  # The packages of the Python steps: all wheels of .venv but LibTorch and CUDA.
  file(READ "${venv}/installed.txt" wheels)
  string(REPLACE " " ";" wheels "${wheels}")
  list(FILTER wheels EXCLUDE REGEX "^(--no-deps|torch==|nvidia-)")
  list(JOIN wheels "\n" text)
  file(WRITE "${root}/share/sutor/requirements.txt" "${text}\n")
  if(install_venv)
    file(GLOB packages LIST_DIRECTORIES TRUE "${site_packages}/*")
    list(FILTER packages EXCLUDE REGEX
      "/(torch|torchgen|functorch|nvidia|pip|setuptools|pkg_resources|_distutils_hack|__pycache__)$")
    list(FILTER packages EXCLUDE REGEX "/(torch|nvidia_[a-z0-9_]+|pip|setuptools)-[0-9.]+dist-info$")
    list(FILTER packages EXCLUDE REGEX "/distutils-precedence.pth$")
    string(REPLACE "${venv}/" "" packages_folder "${site_packages}")
    set(there "${CMAKE_INSTALL_PREFIX}/share/sutor/venv")
    file(INSTALL ${packages} DESTINATION "${there}/${packages_folder}" USE_SOURCE_PERMISSIONS
      PATTERN __pycache__ EXCLUDE PATTERN tests EXCLUDE)
    # A venv by its form: a link to the system's Python, and a file that says so.
    file(REAL_PATH "${venv}/bin/python" python)
    get_filename_component(python_folder "${python}" DIRECTORY)
    file(WRITE "${root}/share/sutor/venv/pyvenv.cfg"
      "home = ${python_folder}\ninclude-system-site-packages = false\n")
    file(MAKE_DIRECTORY "${root}/share/sutor/venv/bin")
    file(CREATE_LINK "${python}" "${root}/share/sutor/venv/bin/python" SYMBOLIC)
  endif()
]])

install(DIRECTORY ${PROJECT_SOURCE_DIR}/tools/ DESTINATION share/sutor/tools
  PATTERN "*.sh" EXCLUDE PATTERN __pycache__ EXCLUDE PATTERN quickstart EXCLUDE PATTERN sutor_study EXCLUDE
  PATTERN study.py EXCLUDE PATTERN container EXCLUDE)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/recipes/ DESTINATION share/sutor/recipes
  FILES_MATCHING PATTERN "*.yaml" PATTERN "*.sbatch" PATTERN "*.md" PATTERN studies EXCLUDE)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION share/doc/sutor)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION share/doc/sutor)

# Pages and completion come from the program itself, as it was installed.
install(CODE [[
  execute_process(COMMAND "${venv}/bin/python" -B "${sources}/tools/make_reference.py" "${program}"
    --man "${root}/share/man/man1"
    --bash "${root}/share/bash-completion/completions/sutor"
    --zsh "${root}/share/zsh/site-functions/_sutor"
    COMMAND_ERROR_IS_FATAL ANY)
]])
