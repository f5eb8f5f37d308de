#!/usr/bin/env python3
"""Draws a run as one HTML page that needs no network. Run by `sutor report`, `run` and `train`:

    report.py JOB       JOB: a JSON object with
        facts           file of JSON: what the program says of the run (launch/report/run_facts.h)
        metrics         metrics.jsonl
        evaluations     eval.jsonl
        plan            plan.json: what `plan` expected, and what was measured
        evaluation      folder of `sutor eval`: evaluation.json, and completions of the base and of
                        what was trained
        samples         how many completions of each set are shown
Files that are not there leave their section out. Prints the page to stdout.
"""

import sys

from sutor_prepare.step import run_step


def run(job):
    from sutor_page.page import page
    from sutor_page.run import Run

    sys.stdout.reconfigure(encoding="utf-8", errors="replace", newline="\n")
    sys.stdout.write(page(Run(job)))


if __name__ == "__main__":
    sys.exit(run_step(run, "no packages"))
