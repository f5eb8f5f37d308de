"""T12, T4: the file operations of a training are recorded and replayed on a simulated disk: every
folder that a power cut may leave is judged. Without any one fsync or rename of the protocol some of
these folders must be bad."""

import json
import os
import re
import shutil

from calls import shim, traced
from lab import Job
from simulated_disk import Disk
from table import row

HOW = {"steps": 4, "keep": 2, "eval_every": 2}
# fsyncs without which no state is possible that was not possible before them.
NOT_NEEDED = {"OWNER": "before its fsync the same folders are possible, and cleaned up"}


class Recording:
    """A training's operations, what it had before, and what whole checkpoints look like."""

    def __init__(self, lab, ranks=1, **how):
        self.job = lab.job(**how)
        self.before = lab.folder / f"before-{self.job.recipe.parent.name}"
        shutil.copytree(self.job.run, self.before)
        _, self.operations = traced(lab, self.job, "train", self.job.recipe, ranks=ranks)
        self.logs = {name: [(json.loads(line)["step"], line) for line in
                            (self.job.run / name).read_text().splitlines()]
                     for name in ("metrics.jsonl", "eval.jsonl")}

    def disk(self):
        disk = Disk(self.before)
        disk.root = str(self.job.run)
        return disk

    def saves(self):
        """Where each save begins."""
        return [i for i, o in enumerate(self.operations)
                if o[0] == "mkdir" and ".staging-" in o[1]]


def claimed(operation_number, saves, recording):
    """The newest step that had been reported: the save before the one that has begun."""
    begun = sum(1 for start in saves if start < operation_number)
    if operation_number >= len(recording.operations):
        return begun
    return max(0, begun - 1)


def problem_of(state, whole, step, logs):
    """What is wrong with a folder that a crash left when checkpoint `step` had been reported."""
    files = dict(state)
    steps = sorted(int(m[1]) for m in (re.fullmatch(r"checkpoints/step-(\d+)", path)
                                       for path in files) if m)
    for path, contents in whole.items():
        if path in files and not path.endswith(".jsonl") and files[path] not in contents:
            return f"{path} is torn: {len(files[path])} bytes"
    for number in steps:
        folder = f"checkpoints/step-{number:08}/"
        for path in whole:
            if path.startswith(folder) and path not in files:
                return f"{path} is missing"
    if step and (not steps or steps[-1] < step):
        return f"step {step} was reported, there are {steps}"
    latest = files.get("checkpoints/LATEST")
    if latest is not None and f"checkpoints/{latest.decode().strip()}" not in files:
        return f"LATEST says {latest}, which is not there"
    if step and (latest is None or int(latest.decode()[5:]) < step):
        return f"step {step} was reported, LATEST says {latest}"
    if steps:
        for name, log in logs.items():  # an evaluation of a step comes before its checkpoint
            wanted = [line for number, line in log if number <= steps[-1]]
            lines = (files.get(name) or b"").decode(errors="replace").splitlines()
            if lines[:len(wanted)] != wanted:
                return f"checkpoint of step {steps[-1]}, {name} has {len(lines)} lines"
    return ""


def kind_of(problem):
    return re.sub(r"\d+", "N", problem.split("): ")[1])


def judge(lab, recording, dropped=None, known=(), every_state=None):
    """Replays, without the operation `dropped`; the number of folders that were judged, and the
    bad ones. With an operation dropped it ends at the first that is bad in a way that is not
    `known`, and judges those folders alone that come after it."""
    disk, numbers, saves = recording.disk(), lab.random("replay"), recording.saves()
    judged, bad = set(), []
    for number, operation in enumerate(recording.operations, 1):
        if number - 1 != dropped:
            disk.do(operation)
        if dropped is not None and number - 1 < dropped:
            continue
        step = claimed(number, saves, recording)
        for kept in disk.crashes(numbers, 6 if dropped is None else 2):
            state = disk.state(kept)
            key = hash((state, step))
            if key in judged:
                continue
            judged.add(key)
            problem = problem_of(state, disk.named_whole, step, recording.logs)
            if problem:
                bad.append(f"after operation {number} ({operation[0]} "
                           f"{os.path.basename(operation[1])}): {problem}")
                if dropped is None or kind_of(bad[-1]) in known:
                    continue
                return len(judged), bad[-1:]
            elif every_state is not None:
                every_state.setdefault(hash(state), state)
    return len(judged), bad if dropped is None else []


@row("T12", "every folder that a power cut may leave by POSIX: OLD or NEW, logs whole")
def every_folder(lab, count):
    for ranks in (1, 2):
        how = {**HOW, "parallel": f"ep: {ranks}", "background": lab.asyncs[0]}
        right = lab.reference(ranks, **how)
        recording, states = Recording(lab, ranks, **how), {}
        judged, bad = judge(lab, recording, every_state=states)
        count.tried += judged
        kinds = {}
        for text in bad:
            kinds.setdefault(kind_of(text), text)
        for kind, text in kinds.items():
            count.bad.append(f"{ranks} ranks: {text}")
        count.note(f"{ranks} ranks: {len(recording.operations)} operations, {judged} folders")
        # The program's own reader and a resumed training agree, on some of the good ones.
        chosen = lab.random("T12").sample(sorted(states), min(12, len(states)))
        count.each(lab, chosen, lambda key: program_problem(lab, recording, states[key], right,
                                                            ranks))


def program_problem(lab, recording, state, right, ranks):
    with lab.lock:
        lab.count += 1
        folder = lab.folder / f"job-{lab.count}"
    (folder / "run").mkdir(parents=True)
    for path, content in state:
        target = folder / "run" / path
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recording.job.recipe.read_text().replace(
        str(recording.job.run), str(folder / "run")))
    return lab.settle(Job(recipe), right, ranks=ranks)


@row("T4", "without any one fsync or rename of a save the replay finds a bad folder", short=True)
def mutations(lab, count):
    for keep in (1, 9):  # with retention behind each save, and without
        mutations_of(lab, count, {"steps": 4, "keep": keep, "eval_every": 1,
                                      "background": lab.asyncs[-1]})


def of_a_save(recording, path):
    """Whether an operation on `path` is a save's. plan.json is written beside the saves, whole or
    not at all, by fsync, rename and fsync of the output folder; no checkpoint speaks of it."""
    return path != str(recording.job.run) and "plan.json" not in os.path.basename(path)


def mutations_of(lab, count, how):
    recording = Recording(lab, 1, **how)
    _, bad = judge(lab, recording)
    known = {kind_of(text) for text in bad}
    for kind in known:
        count.note(f"bad with all of them, so not counted here: {kind}")
    saves = recording.saves()
    for position in range(saves[1], saves[2]):
        name, path, *_ = recording.operations[position]
        if name not in ("fsync", "rename") or not of_a_save(recording, path):
            continue
        title = (f"keep {how['keep']}, without {name} "
                 f"{path.replace(str(recording.job.run), '')}")
        _, bad = judge(lab, recording, dropped=position, known=known)
        reason = NOT_NEEDED.get(os.path.basename(path))
        if bad:
            count.state(title)
            count.note(f"{title}: seen {bad[0]}")
        elif reason:
            count.note(f"{title}: not seen; {reason}")
        elif name == "rename":
            problem = undone_problem(lab, recording, position, how)
            if ".trash" in path and not problem:
                count.note(f"{title}: nothing is lost, the next save's retention removes it")
                continue
            count.state(title, "" if problem else "the program does not notice")
            count.note(f"{title}: seen without a power cut, {problem}")
        else:
            count.state(title, "no folder is bad")


def undone_problem(lab, recording, position, how):
    """What shows that a rename was only said to be done; no power cut is needed."""
    right = recording.job.result()
    job = lab.job(**how)
    done = lab.sutor("train", job.recipe, env=shim(lab, f"any:{job.run}:{position + 1}:drop"))
    return str(done) if done.code else lab.difference(job, right) or ", ".join(job.leftovers())
