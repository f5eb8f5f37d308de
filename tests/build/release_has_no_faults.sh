#!/usr/bin/env bash
# A release build holds no fault injection and says so when it is asked for a fault. Configures the
# preset `release` and looks at the files that it would compile, then builds and runs the file that
# stands in their place.
# Use: bash tests/build/release_has_no_faults.sh BUILD_FOLDER [CMAKE OPTION...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
shift

quietly() {
  "$@" >"$folder.log" 2>&1 || {
    cat "$folder.log" >&2
    exit 1
  }
}
refuse() {
  echo "$1" >&2
  exit 1
}

rm -rf "$folder"
quietly cmake --preset release -S "$here/../.." -B "$folder/release" "$@"
grep -q 'csrc/comm/no_fault\.cc' "$folder/release/build.ninja" || refuse "no_fault.cc is not built"
! grep -q 'csrc/comm/fault\.cc' "$folder/release/build.ninja" || refuse "fault.cc is built"

quietly cmake -S "$here/no_faults" -B "$folder/alone" -G Ninja "$@"
quietly cmake --build "$folder/alone"
unset SUTOR_FAULT
[[ $("$folder/alone/no_faults") == done ]] || refuse "it does not run"
rc=0
output=$(SUTOR_FAULT='kill:rank=0:op=dispatch rows' "$folder/alone/no_faults") || rc=$?
echo "$output"
[[ $rc == 2 && $output == 'error[E0242]: SUTOR_FAULT is set '* ]] ||
  refuse "expected E0242 and exit 2, got exit $rc"
