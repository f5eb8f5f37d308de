#!/usr/bin/env bash
# Sets up the machine, builds everything, and passes the tests that need no Python torch.
# Use: bash tools/test.sh [CTEST OPTION...]     for example: bash tools/test.sh -L mpi
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/common.sh

bash tools/setup.sh --tests
say "tests: ctest in $build_dir/"
ctest --test-dir "$build_dir" --output-on-failure --no-tests=error -j "$(nproc)" "$@"
say "all tests passed"
