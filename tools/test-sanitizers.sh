#!/usr/bin/env bash
# Builds the unit tests with the address and undefined-behaviour sanitizers, in build-asan/, and
# passes them. Too long for every change: run it when memory is handled by hand.
# Use: bash tools/test-sanitizers.sh [PROGRAM...]     for example: base_test checkpoint_test
set -euo pipefail
cd "$(dirname "$0")/.."
export SUTOR_PRESET=asan
source tools/common.sh

[[ -d .venv ]] || die "there is no .venv yet; run first: bash tools/setup.sh --tests"
if [[ ! -f $build_dir/build.ninja ]]; then
  say "configure: preset $preset in $build_dir/"
  logged configure cmake --preset "$preset"
fi
programs=("$@")
if ((${#programs[@]} == 0)); then
  mapfile -t programs < <(ctest --test-dir "$build_dir" -N -R '^unit[.]' |
    sed -n 's/.*: unit[.]\([a-z_]*\).*/\1/p' | sort -u)
fi
build "${programs[@]}"

# The allocations that libtorch and MPI keep until the end are no leaks of ours.
cat >"$build_dir/leaks.txt" <<'EOF'
leak:libtorch
leak:libc10
leak:libmpich
EOF
export ASAN_OPTIONS=halt_on_error=1:detect_leaks=1:detect_stack_use_after_return=1
export LSAN_OPTIONS=suppressions=$PWD/$build_dir/leaks.txt:print_suppressions=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
pattern=$(IFS='|'; echo "${programs[*]}")
say "tests: $pattern"
ctest --test-dir "$build_dir" --output-on-failure --no-tests=error -j "$(nproc)" --timeout 600 \
  -R "^unit[.]($pattern)([.]|\$)"
say "all unit tests passed under the sanitizers"
