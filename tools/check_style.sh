#!/usr/bin/env bash
# Checks what no compiler checks: C++ format, direction of includes, Python and shell syntax, and
# the length of lines. Use: bash tools/check_style.sh [--fix]     --fix formats the C++ files.
set -euo pipefail
export LC_ALL=C.UTF-8  # lines are counted in characters
cd "$(dirname "$0")/.."

folders=(launch recipes checkpoint layers parallel_state csrc tests tools)
mapfile -t cpp < <(find "${folders[@]}" -name '*.h' -o -name '*.cc' -o -name '*.cu' | sort)
mapfile -t python < <(find "${folders[@]}" -name '*.py' | sort)
mapfile -t shell < <(find "${folders[@]}" -name '*.sh' | sort)
shell+=(.ci/run tests/gpu/pack/{check,rates,step})

if [[ ${1:-} == --fix ]]; then
  clang-format -i "${cpp[@]}"
fi
failed=0
printf '%s\0' "${cpp[@]}" |
  xargs -0 -P "$(nproc)" -n 40 clang-format --dry-run -Werror --ferror-limit=1 || failed=1
python3 tests/includes_test.py . || failed=1
python3 tests/filesystem_calls_test.py . || failed=1
python3 tests/error_codes_test.py . || failed=1
python3 -c 'import ast, sys
for file in sys.argv[1:]:
    ast.parse(open(file).read(), file)' "${python[@]}" || failed=1
for file in "${shell[@]}"; do
  bash -n "$file" || failed=1
done
if grep -nE '.{101,}' "${python[@]}" "${shell[@]}"; then
  echo "these lines are longer than 100 columns" >&2
  failed=1
fi
if ((failed)); then
  echo "style: failed (bash tools/check_style.sh --fix formats the C++ files)" >&2
  exit 1
fi
echo "style: ${#cpp[@]} C++, ${#python[@]} Python and ${#shell[@]} shell files are in order"
