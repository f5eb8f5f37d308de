"""T1, T32: SIGKILL at random moments of trainings that save at every step, until they are done."""

import os
import re
import subprocess
import time

from lab import leftovers_problem
from processes import jobs
from table import row

STEPS = 40
ENDS_SECONDS = 10  # a job whose rank was killed is over by then


@row("T1", "SIGKILL of a rank or of all at random moments: OLD or NEW, nothing lost", short=True)
def random_kills(lab, count):
    kinds = [(ranks, background) for ranks in (1, 2, 4) for background in lab.asyncs]
    share = {1: 0.4, 2: 0.4, 4: 0.2}
    for ranks, background in kinds:
        wanted = max(2, round(lab.options.kills * share[ranks] / len(lab.asyncs)))
        done = kill_until(lab, count, ranks, background, wanted)
        count.note(f"{ranks} ranks, async {background}: {done}")


def kill_until(lab, count, ranks, background, wanted):
    """Trainings, each killed and resumed until it is done, until there were enough kills."""
    how = {"steps": STEPS, "parallel": f"ep: {ranks}", "background": background}
    began = time.monotonic()
    right = lab.reference(ranks, **how)
    whole = max(0.4, time.monotonic() - began)
    numbers = lab.random(f"T1 {ranks} {background}")
    kills = trainings = 0
    while kills < wanted:
        job, number, options, trainings = lab.job(**how), 0, [], trainings + 1
        while True:
            number += 1
            name = f"{ranks} ranks, async {background}, training {trainings}, start {number}"
            moment = numbers.uniform(0.1, 1.0) * whole if kills < wanted else None
            newest = max(job.steps(), default=0)
            done, killed = run_and_kill(lab, job, options, ranks, moment, numbers)
            problem = lost_steps(done, newest) or state_problem(lab, job, done, killed)
            kills += killed
            if killed or problem:
                count.state(name, problem)
            if problem or (done.code == 0 and not killed):
                break
            options = ["--resume"]
            if number > 60:
                count.state(name, "60 kills and no end")
                break
        if not problem:
            count.state(f"{name}, the end", lab.difference(job, right) or leftovers_problem(job))
    return f"{kills} kills, {trainings} trainings"


def run_and_kill(lab, job, options, ranks, moment, numbers):
    """Starts a training and kills one of its ranks or all after `moment` seconds."""
    started = lab.start("train", job.recipe, *options, ranks=ranks)
    if moment is None:
        return started.wait(), False
    try:
        started.process.wait(moment)
        return started.wait(), False
    except subprocess.TimeoutExpired:
        victims = started.ranks()
    if ranks > 1 and not victims:
        started.kill()
        return started.wait(), True
    if ranks > 1 and numbers.random() < 0.5:
        victims = [numbers.choice(victims)]
    for pid in victims:
        jobs.kill(pid)
    done = started.wait(ENDS_SECONDS)
    end = time.monotonic() + ENDS_SECONDS
    while jobs.pids_of(str(job.recipe)) and time.monotonic() < end:
        time.sleep(0.02)
    return done, True


def lost_steps(done, newest):
    """Whether a start went on elsewhere than behind the newest checkpoint."""
    trained = re.search(r"^step (\d+)/", done.out, re.M)
    if trained and int(trained[1]) != newest + 1:
        return f"checkpoint of step {newest}, but it went on with step {trained[1]}"
    return f"a checkpoint was passed over: {done}" if "passed over" in done.err else ""


def state_problem(lab, job, done, killed):
    if done.code is None:
        return f"not over {ENDS_SECONDS} s after the kill"
    if not killed and done.code != 0:
        return f"the training cannot go on: {done}"
    if killed and done.code == 0 and len(job.metrics()) < STEPS:
        return "exit 0 though it was killed"
    if jobs.pids_of(str(job.recipe)):
        return "ranks are left over"
    steps = job.steps()
    if done.saved() and max(done.saved()) not in steps:
        return f"step {max(done.saved())} was reported, there are {steps}"
    if steps:
        checked = lab.sutor("verify", job.checkpoints)
        if checked.code != 0:
            return f"verify: {checked} {checked.out[-300:]}"
    return ""


@row("T32", "2 N steps, and N, a kill, and N more: equal to the last bit, async on")
def halves(lab, count):
    for ranks in (1, 2):
        for background in lab.asyncs:
            how = {"steps": 12, "every": 3, "parallel": f"ep: {ranks}", "background": background,
                   "eval_every": 4}
            right = lab.reference(ranks, **how)
            job = lab.job(**how)
            started = lab.start("train", job.recipe, ranks=ranks)
            started.wait_for(r"^step 7/")
            for pid in started.ranks():
                os.kill(pid, 9)
            started.wait()
            count.state(f"{ranks} ranks, async {background}",
                        lab.settle(job, right, ranks=ranks))
