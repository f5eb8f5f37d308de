#!/usr/bin/env python3
"""Tries the fault table: kills, power cuts, failing calls, damaged and hostile files, signals. Each
row says what was tried, in how many states, and what came of it. Exit code 1 when a row fails, 77
when no row was possible. Rows that need root, gcc or h5py say so.

  python3 tests/reliability/fault_table.py --sutor build/sutor [--rows T1,T5] [--kills 200]
      [--short] [--seed N] [--workers 2] [--out RESULTS.md] [--json FILE]
"""

import argparse
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

import crash_points
import damaged_files
import exactness
import failing_calls
import hostile_files
import kills
import odd_inputs
import power_cuts
import replay
import reshard
import stops
import table
import two_jobs
from lab import Lab
from processes import ROOT

MODULES = (kills, crash_points, power_cuts, replay, failing_calls, damaged_files, hostile_files,
           odd_inputs, two_jobs, reshard, exactness, stops)


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--sutor", default="build/sutor")
    parser.add_argument("--rows", default="")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count()))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--work", help="where the temporary folder is made")
    parser.add_argument("--keep-work", action="store_true", help="leave the temporary folder")
    options = parser.parse_args()
    if options.short:
        options.kills = min(options.kills, 30)
    return options


def order(name):
    return name.rstrip("0123456789"), int("0" + "".join(filter(str.isdigit, name)))


def chosen_rows(options):
    names = sorted(table.ROWS, key=order)
    if options.rows:
        wanted = options.rows.split(",")
        unknown = [name for name in wanted if name not in table.ROWS]
        if unknown:
            sys.exit(f"no rows {unknown}; there are {', '.join(names)}")
        return [table.ROWS[name] for name in wanted]
    return [table.ROWS[name] for name in names
            if table.ROWS[name].in_short or not options.short]


def with_h5py():
    """Two rows make HDF5 files: the tests' own Python has h5py where this one has not."""
    python = ROOT / ".venv" / "bin" / "python"
    if importlib.util.find_spec("h5py") is None and python.exists():
        os.execv(python, [str(python), *sys.argv])


def main():
    options = arguments()
    with_h5py()
    # A shell that starts this in the background has it ignored, and so would the trainings.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = chosen_rows(options)
    lab = Lab(options.sutor, options)
    version = subprocess.run([lab.program, "--version"], capture_output=True, text=True,
                             check=True).stdout.splitlines()[0]
    who = "root" if os.geteuid() == 0 else "user"
    head = (f"{version}; {datetime.date.today()}; seed {options.seed}; {platform.system()} "
            f"{platform.release()}, {os.cpu_count()} cores, {who}"
            f"{'; the short selection' if options.short else ''}.")
    print(f"{head}\n{table.HEADER}", flush=True)
    outcomes = []
    try:
        for row in rows:
            outcomes.append(table.try_row(row, lab))
            print(table.line_of(outcomes[-1]), flush=True)
            for text in outcomes[-1].bad[:8]:
                print(f"         {' '.join(text.split())[:600]}", flush=True)
            for text in outcomes[-1].notes[:20]:
                print(f"       . {' '.join(text.split())[:300]}", flush=True)
    finally:
        lab.close()
    if options.out:
        options.out.write_text(table.markdown(outcomes, head))
    if options.json:
        options.json.write_text(json.dumps(
            {"version": version, "date": str(datetime.date.today()), "seed": options.seed,
             "rows": [outcome.__dict__ for outcome in outcomes]}, indent=1) + "\n")
    failed = [outcome.row for outcome in outcomes if outcome.outcome == table.FAILS]
    here = [outcome for outcome in outcomes if not outcome.outcome.startswith(table.NOT_HERE)]
    print(f"{len(here)} rows tried, {len(outcomes) - len(here)} not possible here, "
          f"{sum(o.tried for o in outcomes)} states, {sum(o.seconds for o in outcomes):.0f} s; "
          + (f"fail: {', '.join(failed)}" if failed else "all hold"))
    return 1 if failed else 0 if here else 77


if __name__ == "__main__":
    sys.exit(main())
