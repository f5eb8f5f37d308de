#!/usr/bin/env bash
# Runs the fuzz targets, one after the other, and prints a table. A target that crashes, leaks, or
# takes 10 s for one input or more than 2 GB ends early; its input lies in
# build-fuzz/found/<target>/.
# Use: bash tests/fuzz/run.sh [RUNS [TARGET...]]      RUNS: inputs a target, 1000000 unless given
# Needs clang with its sanitizers and libFuzzer (Debian: clang, libclang-rt-14-dev).
set -euo pipefail
cd "$(dirname "$0")/../.."

runs=${1:-1000000}
shift $(($# > 0 ? 1 : 0))
build=build-fuzz
if [[ ! -f $build/build.ninja ]]; then
  cmake --preset fuzz
fi
cmake --build "$build" --target fuzz --parallel "${SUTOR_FUZZ_JOBS:-2}"
"$build/fuzz_replay" --write "$build/corpus"
targets=("$@")
if ((${#targets[@]} == 0)); then
  for seeds in "$build"/corpus/*/; do targets+=("$(basename "$seeds")"); done
fi

failed=0
table=$(printf '%-20s %12s %10s  %s' target runs seconds result)
for target in "${targets[@]}"; do
  mkdir -p "$build/found/$target" "$build/corpus/$target"
  log=$build/found/$target.log
  inputs=("$build/corpus/$target")
  if [[ -d tests/fuzz/found/$target ]]; then inputs+=("tests/fuzz/found/$target"); fi
  begin=$SECONDS
  result=clean
  "$build/fuzz_$target" -runs="$runs" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
    -print_final_stats=1 -artifact_prefix="$build/found/$target/" \
    "${inputs[@]}" >"$log" 2>&1 || {
    result="FOUND: see $log"
    failed=1
  }
  done=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  line=$(printf '%-20s %12s %10s  %s' "$target" "${done:-?}" $((SECONDS - begin)) "$result")
  echo "$line"
  table+=$'\n'$line
done
printf '\n%s\n' "$table"
exit "$failed"
