#!/usr/bin/env bash
# The archive of tools/gpu_pack.sh, made of a build, unpacked and started as far as a machine
# without a GPU lets it go.
# Use: [PYTHON=PROGRAM] bash tests/gpu/pack_test.sh BUILD_FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$1
export PYTHON=${PYTHON:-$root/.venv/bin/python} DEVICE=cpu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OUT=$work/out

refuse() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}
# holds FILE PATTERN...
holds() {
  local file=$1 pattern
  shift
  for pattern; do
    grep -qE -- "$pattern" "$file" || refuse "no line of ${file##*/} is like: $pattern"
  done
}

# What is missing is named, and nothing is packed.
mkdir "$work/empty"
bash "$root/tools/gpu_pack.sh" "$work/empty" >"$work/log" 2>&1 && refuse "it packs an empty folder"
holds "$work/log" 'is not a build folder'
cp "$build/CMakeCache.txt" "$work/empty"
bash "$root/tools/gpu_pack.sh" "$work/empty" >"$work/log" 2>&1 && refuse "it packs no program"
holds "$work/log" 'there is no .*/sutor; first: cmake --build'

XZ_OPT=-0 bash "$root/tools/gpu_pack.sh" "$build" "$work/pack.tar.xz"
tar -C "$work" -xf "$work/pack.tar.xz"
pack=$work/sutor-gpu

# No library comes from this machine but glibc and the compiler's, which may be its own.
(
  # shellcheck source=SCRIPTDIR/pack/common.sh
  source "$pack/common.sh"
  for program in sutor operators_test gpu_rates; do
    ldd_of "$program" | awk '$2 == "=>" {print $1, $3}' | while read -r name path; do
      case $path in
        "$pack"/lib/* | */torch/lib/* | */nvidia/*) ;;
        *)
          [[ $name =~ ^lib(c|m|dl|rt|pthread|util|resolv|stdc\+\+|gcc_s)\.so ]] ||
            refuse "$program takes $name from $path"
          ;;
      esac
    done
  done
)

"$pack/check" || refuse "check"
head -n 4 "$OUT/check.txt" | grep -q '^commit  *[0-9a-f]\{40\}' || refuse "check names no commit"
holds "$OUT/check.txt" '^card ' '^date ' '^libraries: all found' \
  '^Swiglu +cpu .* ok, [0-9]+ tests' '^deepseek_v2_lite, loss in bf16 +cpu .* ok$' \
  'resumed at 25 +cpu .* same bits +ok$' 'frozen tensors \(whole\) +cpu .* ok$' \
  '^operators +cuda .* not measured: ' '^compute-sanitizer memcheck +cuda .* not measured: '
"$pack/rates" --scale 64 || refuse "rates"
holds "$OUT/rates.txt" '^ceiling: mm' '^expert_mlp backward, skewed .* TFLOP/s ' \
  '^adamw_bf16 .* GB/s ' 'not measured: '
"$pack/step" --layers 2 >"$work/log" || refuse "step: $(<"$work/log")"
holds "$OUT/step.txt" '^esft +cpu +240 .* ok' '^full +cpu +240 .* ok' 'not measured: '

# A library that is not found ends every script before it measures.
mkdir "$work/fake"
printf '#!/bin/sh\necho "libabsent.so.1 => not found"\n' >"$work/fake/ldd"
chmod +x "$work/fake/ldd"
PATH=$work/fake:$PATH "$pack/rates" >"$work/log" 2>&1 && refuse "rates starts without a library"
holds "$work/log" '^sutor: libabsent.so.1 => not found' '^error: libraries are missing'
echo "all passed"
