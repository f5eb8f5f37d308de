"""T28, T29: trainings that go on under another layout: the tensors that were loaded are the saved
ones, bit for bit, and the losses are those of one rank that was never disturbed."""

import array
import shutil

from processes import SECONDS
from table import row
from tiles import logical_tensors

LAYOUTS = {
    "1": (1, ""), "ep2": (2, "ep: 2"), "tp2": (2, "tp: 2"), "pp2": (2, "pp: 2"), "dp2": (2, ""),
    "tp2 ep2": (2, "tp: 2, ep: 2"), "tp2 etp2": (2, "tp: 2, etp: 2"), "cp2": (2, "cp: 2"),
    "ep4": (4, "ep: 4"), "tp2 pp2": (4, "tp: 2, pp: 2"), "ep2 x 2": (4, "ep: 2")}
STEPS, BREAK = 4, 3


def falling(text):
    """The learning rate of the last step is 0: it leaves the weights as they were loaded."""
    return text.replace("name: constant", "name: linear")


def layout_options(text):
    return [word for part in filter(None, text.split(", "))
            for word in ("--set", "parallel." + part.replace(": ", "="))]


def halves(lab, layouts, how):
    """Trainings of BREAK steps, one of each layout."""
    begun = {}
    for name in layouts:
        ranks, parallel = LAYOUTS[name]
        job = lab.job(steps=STEPS, keep=9, **how)
        lab.must("train", job.recipe, "--set", f"schedule.steps={STEPS}",
                 *layout_options(parallel), ranks=ranks)
        for step in (STEPS,):
            shutil.rmtree(job.step(step))
        for name_of in ("LATEST", "BEST"):
            (job.checkpoints / name_of).unlink(missing_ok=True)
        begun[name] = job
    return begun


def problem_of(lab, begun, right, pair):
    writer, reader = pair
    job = lab.copy(begun[writer])
    ranks, parallel = LAYOUTS[reader]
    done = lab.sutor("train", job.recipe, "--resume", *layout_options(parallel), ranks=ranks,
                     timeout=SECONDS)
    if done.code != 0 or STEPS not in job.steps():
        return str(done)
    before, after = (logical_tensors(job.step(step)) for step in (BREAK, STEPS))
    if before.keys() != after.keys() or not before:
        return f"other tensors: {sorted(before.keys() ^ after.keys())[:4]}"
    if job.metrics()[-1][3] != 0:
        return f"the harness: the last learning rate is {job.metrics()[-1][3]}"
    for (name, kind), value in before.items():
        if kind == "master" and after[name, kind] != value:
            return f"{name} is not what was saved"
    for key, value in right["tensors"].items():
        problem = far(after[key], value)
        if problem:
            return f"{' '.join(key)}: {problem}"
    for mine, theirs in zip(job.metrics(), right["metrics"], strict=True):
        if abs(mine[1] - theirs[1]) > 1e-6 * max(1, abs(theirs[1])):
            return f"step {mine[0]}: loss {mine[1]} for {theirs[1]}"
    checked = lab.sutor("verify", job.checkpoints)
    shutil.rmtree(job.recipe.parent)
    return "" if checked.code == 0 else f"verify: {checked}"


def far(data, expected):
    """Moments after one more step, which other layouts sum in another order."""
    a, b = array.array("f", data), array.array("f", expected)
    scale = max(map(abs, b), default=0)
    worst = max((abs(x - y) for x, y in zip(a, b, strict=True)), default=0)
    return f"differs by {worst} of {scale}" if worst > 2e-5 * scale else ""


def undisturbed(lab, how):
    job = lab.job(steps=STEPS, keep=9, **how)
    lab.must("train", job.recipe)
    return {"tensors": logical_tensors(job.step(STEPS)), "metrics": job.metrics()}


@row("T28", "every layout goes on from every other: tensors bit-equal, losses within 1e-6")
def matrix(lab, count):
    how = {"change": falling}
    names = ["1", "ep2", "tp2"] if lab.options.short else list(LAYOUTS)
    right, begun = undisturbed(lab, how), halves(lab, names, how)
    pairs = [(a, b) for a in names for b in names if a != b]
    count.each(lab, pairs, lambda pair: problem_of(lab, begun, right, pair))


@row("T29", "one expert in all, ranks without any, fewer experts than ranks")
def uneven(lab, count):
    config = lab.folder / "one_expert.json"
    config.write_text('{"experts": {"1": [5]}, "shared_experts": false, '
                      '"non_expert_modules": false}')

    def one_expert(text):
        return falling(text).replace(str(lab.folder / "experts.json"), str(config))

    how = {"change": one_expert}
    names = ["1", "ep2", "ep4", "tp2 pp2", "pp2"]
    right, begun = undisturbed(lab, how), halves(lab, names, how)
    pairs = [(a, b) for a in names for b in names if a != b]
    count.each(lab, pairs, lambda pair: problem_of(lab, begun, right, pair))
