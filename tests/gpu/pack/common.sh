# shellcheck shell=bash
# What check, rates and step begin with: the device, torch's libraries, and a first page that says
# which card, when and which commit. Sourced, with the arguments of the script; not run by itself.
#
# PYTHON names the Python that has torch, 2.11.0+cu130 (python3); SUTOR_TORCH its torch folder when
# that Python does not find it. DEVICE=cpu leaves a GPU alone. OUT is the folder for what is printed
# (out).
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
out=${OUT:-out}
build=$(<"$here/BUILD")

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# The folder of a Python package, which is not imported.
package_folder() {
  "$python" - "$1" <<'END'
import importlib.util
import sys

spec = importlib.util.find_spec(sys.argv[1])
print(list(spec.submodule_search_locations)[0] if spec else "")
END
}

# Ours first, then torch's and those of CUDA's packages beside it. libstdc++ and libgcc_s are the
# machine's unless it has none or they are too old.
find_libraries() {
  local torch=${SUTOR_TORCH:-} folder
  [[ -n $torch ]] || torch=$(package_folder torch)
  [[ -d $torch/lib ]] || die "$python has no torch (PYTHON and SUTOR_TORCH say where it is)"
  libraries=$here/lib:$torch/lib
  for folder in "${torch%/*}"/nvidia/*/lib; do
    [[ -d $folder ]] && libraries+=:$folder
  done
  if ldd_of sutor | grep -qE "GLIBCXX|lib(stdc\+\+|gcc_s)[^ ]* => not found"; then
    libraries+=:$here/lib/compiler
  fi
  return 0
}

ldd_of() { LD_LIBRARY_PATH=$libraries ldd "$here/bin/$1" 2>&1 || true; }

# What no library is found for; exit code 1 when there is anything.
check_libraries() {
  local program missing=0
  for program in "$here"/bin/*; do
    program=${program##*/}
    if ldd_of "$program" | grep 'not found' | sed "s/^/$program: /"; then
      missing=1
    fi
  done
  if ((missing)); then
    die "libraries are missing"
  fi
  echo "libraries: all found"
}

# Why there is no GPU to measure; nothing when there is one.
why_no_gpu() {
  if [[ $build != cuda ]]; then
    echo "built without CUDA"
  elif [[ ${DEVICE:-} == cpu ]]; then
    echo "DEVICE=cpu"
  elif ! compgen -G '/dev/nvidia[0-9]*' >/dev/null && [[ $(card) == none ]]; then
    echo "no GPU"
  fi
}

card() {
  local name fields=name,driver_version,memory.total,clocks.max.sm
  name=$(nvidia-smi --query-gpu=$fields --format=csv,noheader 2>/dev/null | head -n 1) || true
  echo "${name:-none}"
}

# start SCRIPT COMMAND...: the first page, then the command; all of it goes to $out/SCRIPT.txt, too.
start() {
  local script=$1
  shift
  mkdir -p "$out"
  {
    echo "card       $(card)"
    echo "date       $(date -u '+%Y-%m-%d %H:%M UTC')"
    echo "commit     $(<"$here/COMMIT") ($build build)"
    echo "host       $(nproc) cores, $(uname -r), glibc $(getconf GNU_LIBC_VERSION | cut -d' ' -f2)"
    check_libraries
    if [[ -n $SUTOR_NO_GPU ]]; then
      echo "no GPU is measured: $SUTOR_NO_GPU"
    fi
    "$@"
  } 2>&1 | tee "$out/$script.txt"
}

libraries=
find_libraries
SUTOR_NO_GPU=$(why_no_gpu)
SUTOR_LIBRARIES=$libraries
export SUTOR_NO_GPU SUTOR_LIBRARIES
