#!/usr/bin/env bash
# Compares build/sutor with the trusted readers: transformers, safetensors, h5py, TensorBoard.
# Use: bash tools/test-interop.sh [PYTEST OPTION...]     Needs 5 GB for the reference venv.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/common.sh

bash tools/setup.sh
bash tools/setup-reference.sh
say "tests: pytest tests/interop"
SUTOR="$PWD/$build_dir/sutor" .venv-reference/bin/python -m pytest -q -n "$(nproc)" \
  --dist loadfile tests/interop "$@"
say "all interop tests passed"
