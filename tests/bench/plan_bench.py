#!/usr/bin/env python3
"""Plans beside measurements that they were not made by: eight trainings on the CPU, of all kinds.
Peak memory must never be under the measured, and at most 5% above; parameters exact. --time also
trains each once more with other lengths and compares the time of a step, planned by the rate of
the first run.

  .venv/bin/python tests/bench/plan_bench.py build-ci/sutor [--time] [NAME]...
"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e" / "plan"))

import plan_cases  # pylint: disable=wrong-import-position
from plan_cases import Case  # pylint: disable=wrong-import-position

# For the largest of layers and rows to count, and not the smallest.
SMALL = {"size": "small", "rows": 64}

HELD_OUT = [
    Case("v2_esft", "deepseek_v2", seq_len=512, longest=700, **SMALL),
    Case("v3_layer", "deepseek_v3", ("train.recompute=layer", "train.micro_batch=2"), seq_len=384,
         longest=500, **SMALL),
    Case("qwen3_bf16", "qwen3_moe", ("model.dtype=bf16", "data.packing=false"), seq_len=640,
         longest=640, **SMALL),
    Case("qwen2_full", "qwen2_moe", ("train.method=full", ), seq_len=320, scored=False, **SMALL),
    Case("olmoe_ep2", "olmoe", ("parallel.ep=2", ), ranks=2, seq_len=512, longest=600, **SMALL),
    Case("mixtral_tp2", "mixtral", ("parallel.tp=2", ), ranks=2, seq_len=256, **SMALL),
    Case("glm4_pp2_bf16", "glm4_moe", ("parallel.pp=2", "model.dtype=bf16",
                                       "optim.name=adamw_bf16", "train.global_batch=16"),
         ranks=2, seq_len=448, **SMALL),
    Case("gpt_oss_lora_cp2", "gpt_oss", ("train.method=lora", "parallel.cp=2",
                                         "train.recompute=attention"), ranks=2, scored=False,
         seq_len=512, longest=900, **SMALL),
]


def seconds_of(trial):
    rows = trial.metrics()[1:]
    return sum(row["step_seconds"] for row in rows) / len(rows)


def main():
    sutor, *words = sys.argv[1:]
    timed = "--time" in words
    names = [word for word in words if not word.startswith("--")]
    failures = 0
    with tempfile.TemporaryDirectory(prefix="sutor-plan-bench-") as folder:
        for case in HELD_OUT:
            if names and case.name not in names:
                continue
            trial = plan_cases.Trial(sutor, folder, case)
            if timed:  # caches are warm after some steps
                trial.sets += ["--set", "schedule.steps=12"]
            trial.prepare()
            plan = trial.plan()
            trial.train()
            planned, measured = plan["memory"]["peak_bytes"], trial.measured_peak()
            exact = plan["trains"]["parameters"] == trial.plan_file()["measured"]["parameters"]
            over = plan_cases.excess(planned, measured)
            good = exact and 0 <= over <= 0.05
            failures += not good
            print(f"{case.name:18} peak {measured:>12,} planned {planned:>12,} {over:+6.2%}  "
                  f"parameters {'exact' if exact else 'DIFFER'}  {'' if good else 'FAILED'}",
                  flush=True)
            if not good:
                print(trial.plan_file(), flush=True)
            if timed:
                failures += not compare_times(trial)
    return 1 if failures else 0


def compare_times(trial):
    """The same model with other lengths and batches, planned by the rate of the run that was."""
    before = trial.folder / "before"
    (trial.folder / "run").rename(before)
    trial.sets += ["--set", f"data.seq_len={trial.case.seq_len * 3 // 4}", "--set",
                   "train.global_batch=12"]
    trial.prepare()
    planned = trial.plan("--measured", before)["step_seconds"]
    trial.train()
    measured = seconds_of(trial)
    good = abs(planned / measured - 1) <= 0.15
    print(f"{'':18} a step {measured:.4f} s, planned {planned:.4f} s "
          f"{planned / measured - 1:+.1%}  {'' if good else 'FAILED'}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
