#!/usr/bin/env bash
# Runs nvcc and keeps what it says of registers and spills in OBJECT.ptxas, for
# tests/build/cuda_objects_test.py; everything else that it says is shown.
# Use: keep_ptxas_output.sh NVCC ARGUMENT... -o OBJECT ...
set -euo pipefail
object='' before=''
for argument in "$@"; do
  [[ $before == -o ]] && object=$argument
  before=$argument
done
[[ -n $object ]] || exec "$@"
rc=0
"$@" >"$object.ptxas" 2>&1 || rc=$?
grep -vE '^ptxas info |^ *[0-9]+ bytes stack frame' "$object.ptxas" >&2 || true
exit "$rc"
