#!/usr/bin/env python3
"""Runs studies: many trainings and evaluations by sutor's verbs, then a table and a picture.

  bash tools/study.sh NAME...      sets everything up first
  python3 tools/study.py NAME...   needs build/sutor, the quickstart's base, matplotlib, PyYAML

NAME: a file recipes/studies/NAME.study.yaml, the path of such a file, or "all". Finished runs are
not run again. The table goes to stdout and, with the picture, to WORK/studies/results/NAME.md.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from sutor_study import compare, matrices
from sutor_study.definition import read_study
from sutor_study.program import Program
from sutor_study.runs import Runs

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "recipes" / "studies"
QUICK_STEPS = 5
REPORTS = {"compare": compare.report, "sweep": compare.report, "transfer": matrices.transfer,
           "overlap": matrices.overlap, "mask": matrices.mask}  # yapf: disable


def study_files(names):
    shipped = {path.name.removesuffix(".study.yaml"): path
               for path in sorted(STUDIES.glob("*.study.yaml"))}  # yapf: disable
    if names == ["all"]:
        return list(shipped.values())
    files = []
    for name in names:
        path = shipped.get(name, Path(name))
        if not path.is_file():
            raise SystemExit(f"error: no study {name}; there are: {', '.join(shipped)}")
        files.append(path)
    return files


def run_study(study, program, arguments):
    started = time.monotonic()
    steps = QUICK_STEPS if arguments.quick else None
    if arguments.quick:
        study = study.quick()
    print(f"== {study.name}: {study.title}", flush=True)
    results = program.work / "studies" / "results"
    results.mkdir(parents=True, exist_ok=True)
    runs = Runs(program, study.common, arguments.jobs, steps)
    text = REPORTS[study.kind](study, runs, results)
    seconds = time.monotonic() - started
    text = (f"## {study.title}\n\n{text}\n\n"
            f"Took {seconds / 60:.1f} minutes, {arguments.jobs} runs at a time; {runs.kept} of "
            f"{runs.made + runs.kept} steps were there already.")
    (results / f"{study.name}.md").write_text(text + "\n")
    print(f"\n{text}\npicture: {results / study.name}.png\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--work", type=Path, default=ROOT / "quickstart",
                        help="the folder of the quickstart: base model and text")  # yapf: disable
    parser.add_argument("--sutor", type=Path, default=ROOT / "build" / "sutor")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(),
                        help="runs at a time, of one thread each")  # yapf: disable
    parser.add_argument("--quick", action="store_true",
                        help="one seed, one learning rate, two tasks, 5 steps: shows the way only")
    arguments = parser.parse_args()
    program = Program(arguments.sutor, arguments.work)
    for file in study_files(arguments.names):
        run_study(read_study(file), program, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
