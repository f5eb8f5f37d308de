#!/usr/bin/env bash
# Builds NcclComm against CUDA's and NCCL's headers and libraries, as -DSUTOR_CUDA=ON does, and runs
# the program: with a GPU it sums, without one it says so. Skips (77) where the headers are absent.
# Use: bash tests/build/nccl_comm_compiles.sh BUILD_FOLDER [CMAKE OPTION...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
shift

rm -rf "$folder"
cmake -S "$here/nccl_comm" -B "$folder" -G Ninja "$@" >"$folder.log" 2>&1 || {
  cat "$folder.log" >&2
  exit 1
}
if grep 'skipped: ' "$folder.log"; then exit 77; fi
cmake --build "$folder"
rc=0
output=$("$folder/nccl_comm_program" 2>&1) || rc=$?
echo "$output"
[[ $rc == 0 && $output == 'sum 1 of 1 rank' ]] ||
  [[ $rc == 6 && $output == 'error[E0612]: expected a GPU for each rank, found none '* ]] || {
  echo "expected the sum, or that there is no GPU, with exit 0 or 6; got exit $rc" >&2
  exit 1
}
