#!/usr/bin/env python3
"""Scores completions. Run by `sutor eval --completions` and by evaluations that generate:

    score.py JOB        JOB: a JSON object with
        completions     file of JSON lines, see sutor_score/completions.py
        scorers         list of intent, exact, numeric, rouge_l, bleu, chrf, judge
        tokenize        auto, words or cjk: words of ROUGE and BLEU, see sutor_score/overlap.py
        judge           the judge's command line, or "" (sutor_score/judge.py)
        judge_seconds   how long the judge may take for all completions
        json            print {"mean", "scores"}, for several scorers {scorer: {"mean", "scores"}};
                        else a line per scorer
        out             file for the rows with their `score` (by scorer, for several), or ""
"""

import json
import sys

from sutor_prepare.step import run_step


def summary(results):
    from sutor_score.scorers import MEANS

    lines = []
    for name, result in results.items():
        scores = result["scores"]
        rows = f"{len(scores):,} rows"
        if MEANS[name] == MEANS["exact"]:
            rows = f"{sum(scores):,} of {rows}"
        lines.append(f"{name:<8} {result['mean']:8.4f}  {MEANS[name]} ({rows})")
    return "\n".join(lines)


def run(job):
    from sutor_score.completions import read_completions, write_scored
    from sutor_score.scorers import score_completions

    completions = read_completions(job["completions"])
    results = score_completions(completions, job)
    single = next(iter(results.values())) if len(results) == 1 else None
    if job["out"]:
        rows = zip(*(result["scores"] for result in results.values()))
        scores = single["scores"] if single else [dict(zip(results, row)) for row in rows]
        write_scored(job["out"], completions, scores)
    if job["json"]:
        print(json.dumps(single or results))
        return
    print(summary(results))
    if job["out"]:
        print(f"-> {job['out']}")


if __name__ == "__main__":
    sys.exit(run_step(run, "rouge-score and sacrebleu"))
