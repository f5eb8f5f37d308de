#!/usr/bin/env bash
# Runs studies of recipes/studies: sets up, makes the quickstart's base model when there is none,
# then trains and evaluates; prints a table and makes a picture for each.
# Use: bash tools/study.sh NAME... [--quick]     --quick shows the way in a minute or two.
# NAME, and about how many minutes it takes on two free cores after the quickstart: arms 35,
# top_p 8, budget 7, also_train 12, transfer 7, overlap 2, mask 5, optimizer 8; all of them 60, as
# they share runs.
# Run it again to go on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/common.sh

if (($# == 0)) || [[ $1 == -h || $1 == --help ]]; then
  sed -n '2,8s/^# //p' "$0"
  exit $(($# == 0 ? 2 : 0))
fi

wheels=(
  --no-deps matplotlib==3.10.7 contourpy==1.3.3 cycler==0.12.1 fonttools==4.68.0 kiwisolver==1.5.1
  numpy==2.4.6 packaging==26.3 pillow==13.0.0 pyparsing==3.3.3 python-dateutil==4.0.0 six==1.17.0
  pyyaml==6.0.4
)
if [[ ! -f quickstart/base/export/merged/config.json ]]; then
  bash tools/quickstart.sh
else
  bash tools/setup.sh
fi
make_venv .venv-study "${wheels[@]}"
.venv-study/bin/python tools/study.py --sutor "$build_dir/sutor" "$@"
