"""T34-T37: signals, stopped ranks, numbers that are not finite."""

import json
import os
import pathlib
import signal
import struct
import time

from calls import shim
from lab import leftovers_problem
from processes import jobs
from table import row

SLOW = "write:/metrics.jsonl:1:w30:0"  # 30 ms a step, so that there is time for a signal
STEPS = 16
GRACE_SECONDS = 15

# The moment, as the call before which a rank gets the signal.
MOMENTS = {
    "in the start": "open:/model.safetensors:1",
    "in a step": "write:/metrics.jsonl:6",
    "in a save": "write:.staging-00000006*w000:2",
    "while it is published": "rename2:/step-00000006:1",
    "in an evaluation": "write:/eval.jsonl:1",
}


def how(lab, ranks, background):
    return {"steps": STEPS, "every": 3, "eval_every": 4, "parallel": f"ep: {ranks}",
            "background": background}


def stopped_problem(lab, job, done, right, ranks, codes=(75,)):
    """Exit code 75, the last finished step saved, and the end as if nothing had been."""
    if done.code not in codes:
        return str(done)
    trained = [line[0] for line in job.metrics()]
    if done.code == 75 and trained and job.steps()[-1:] != trained[-1:]:
        return f"trained to step {trained[-1]}, saved {job.steps()}"
    return lab.settle(job, right, done.saved(), ranks=ranks) or leftovers_problem(job)


@row("T35", "TERM, INT, USR1, USR2 at any moment, to all or to one rank: saved, exit 75")
def signals(lab, count):
    cases = [(ranks, number, moment) for ranks in (1, 2)
             for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
             for moment in MOMENTS]
    if lab.options.short:
        cases = cases[::7]

    def one_rank(case):
        ranks, number, moment = case
        settings = how(lab, ranks, lab.asyncs[0])
        right, job = lab.reference(ranks, **settings), lab.job(**settings)
        call, part = MOMENTS[moment].split(":", 1)
        rule = f"{call}{'@0' if ranks > 1 else ''}:{part}:s{int(number)}"
        done = lab.sutor("train", job.recipe, ranks=ranks, env=shim(lab, f"{rule};{SLOW}"))
        return stopped_problem(lab, job, done, right, ranks)

    count.each(lab, cases, one_rank)
    for ranks, number in ((1, signal.SIGTERM), (2, signal.SIGTERM), (2, signal.SIGINT),
                          (2, signal.SIGUSR1)):
        count.state(f"{number.name} to mpiexec, {ranks} ranks" if ranks > 1 else number.name,
                    to_the_launcher(lab, ranks, number))
    count.state("TERM twice", twice(lab))


def to_the_launcher(lab, ranks, number):
    settings = how(lab, ranks, lab.asyncs[0])
    right, job = lab.reference(ranks, **settings), lab.job(**settings)
    started = lab.start("train", job.recipe, ranks=ranks, env=shim(lab, SLOW))
    if not started.wait_for(r"^step 5/"):
        return f"the harness: no step 5: {started.wait()}"
    os.kill(started.process.pid, number)
    return stopped_problem(lab, job, started.wait(GRACE_SECONDS), right, ranks)


def twice(lab):
    settings = how(lab, 1, lab.asyncs[0])
    right, job = lab.reference(1, **settings), lab.job(**settings)
    rules = "write:/metrics.jsonl:5:s15;write:.staging-00000005*w0000.h5:1:s15"
    done = lab.sutor("train", job.recipe, env=shim(lab, f"{rules};{SLOW}"))
    return stopped_problem(lab, job, done, right, 1, codes=(75, 130, 143, -2, -15))


@row("T36", "a grace shorter than a save: OLD")
def short_grace(lab, count):
    for ranks in (1, 2):
        for background in lab.asyncs:
            settings = how(lab, ranks, background)
            right, job = lab.reference(ranks, **settings), lab.job(**settings)
            started = lab.start("train", job.recipe, ranks=ranks, env=shim(
                lab, SLOW + ";fsync:.staging-00000006*:1:w1500:0"))
            started.wait_for(r"^step 6/")
            os.kill(started.process.pid, signal.SIGTERM)
            time.sleep(0.4)
            started.kill()
            for pid in jobs.pids_of(str(job.recipe)):
                jobs.kill(pid)
            done = started.wait()
            count.state(f"{ranks} ranks, async {background}",
                        lab.settle(job, right, done.saved(), ranks=ranks))


@row("T37", "a rank that stops in a save, in a collective or in the start: named, OLD")
def stopped_ranks(lab, count):
    limits = {"SUTOR_HEARTBEAT_TIMEOUT": "3", "SUTOR_COMM_TIMEOUT": "8"}
    cases = [("shim", f"{call}@{rank}:{part}:1:s19") for rank in (0, 1)
             for call, part in (("write", ".staging-00000003*w000"),
                                ("fsync", ".staging-00000003*w000"),
                                ("open", "/model.safetensors"))]
    cases += [("fault", f"stop:rank=1:op={operation}") for operation in
              ("dispatch rows", "write checkpoint", "checkpoint records", "watchdog")]

    def problem_of(case):
        settings = how(lab, 2, lab.asyncs[0])
        right, job = lab.reference(2, **settings), lab.job(**settings)
        env = shim(lab, case[1]) if case[0] == "shim" else {"SUTOR_FAULT": case[1]}
        began = time.monotonic()
        done = lab.sutor("train", job.recipe, ranks=2, env=env | limits, timeout=30)
        if done.code is None:
            return "hangs"
        if done.code == 0 or not {"E0605", "E0606", "E0604"} & set(done.errors()):
            return f"after {time.monotonic() - began:.0f} s {done}"
        return lab.settle(job, right, done.saved(), ranks=2)

    count.each(lab, cases, problem_of)


@row("T34", "numbers that are not finite are not saved: exit 7 on all ranks, the tensor named")
def not_finite(lab, count):
    for ranks in (1, 2):
        job = lab.job(steps=6, parallel=f"ep: {ranks}",
                      change=lambda text: text.replace("lr: 1e-3", "lr: 1e38"))
        done = lab.sutor("train", job.recipe, ranks=ranks)
        problem = "" if done.code == 7 and "E0701" in done.err else str(done)
        if not problem and job.steps():
            checked = lab.sutor("verify", job.checkpoints)
            problem = "" if checked.code == 0 else f"verify: {checked}"
        count.state(f"{ranks} ranks, a learning rate of 1e38", problem)
    model = pathlib.Path(str(lab.folder / "model_with_nan"))
    copy_with_nan(lab.folder / "model", model, "model.layers.1.mlp.experts.3.up_proj.weight")
    job = lab.job(steps=2, change=lambda text: text.replace(f"{lab.folder}/model,", f"{model},"))
    done = lab.sutor("train", job.recipe)
    count.state("NaN in a trained weight", "" if done.code in (3, 7) and not job.steps()
                else f"{done}; saved {job.steps()}")


def copy_with_nan(source, target, tensor):
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    path = target / "model.safetensors"
    data = bytearray(path.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    begin = json.loads(data[8:8 + size])[tensor]["data_offsets"][0] + 8 + size
    data[begin:begin + 4] = struct.pack("<I", 0x7FC00001)
    path.write_bytes(data)
