"""T2, T27: SIGKILL before every single file operation of a training's saves, in turn."""

import shutil

from calls import shim, traced
from table import row

HOW = {"steps": 4, "keep": 2, "eval_every": 1}  # first save, LATEST, BEST, retention


def points_of(operations, every=10):
    """Numbers of operations to stop before; of a run of equal ones (the tiles of a file) the first,
    the last, and some between."""
    points = []
    for number, (name, path, *_) in enumerate(operations, 1):
        same = [0 < at <= len(operations) and operations[at - 1][:2] == (name, path)
                for at in (number - 1, number + 1)]
        if not all(same) or number % every == 0:
            points.append(number)
    return points


def label(operations, job, number):
    name, path, *_ = operations[number - 1]
    return f"before {number} ({name} {str(path).replace(str(job.recipe.parent), '')})"


def sample(lab, points, name, some):
    """All of them, or in the short selection some."""
    if not lab.options.short or len(points) <= some:
        return points
    return sorted(lab.random(name).sample(points, some))


@row("T2", "SIGKILL before every file operation of the first saves: OLD or NEW", short=True)
def every_operation(lab, count):
    for background in lab.asyncs[:1] if lab.options.short else lab.asyncs:
        how = {**HOW, "background": background}
        right = lab.reference(1, **how)
        job = lab.job(**how)
        _, operations = traced(lab, job, "train", job.recipe)
        points = points_of(operations)
        if lab.options.short:  # those of one save
            first = next(i for i, o in enumerate(operations, 1)
                         if o[0] == "mkdir" and ".staging-00000002" in o[1])
            last = next((i for i, o in enumerate(operations, 1)
                         if o[0] == "mkdir" and ".staging-00000003" in o[1]), first)
            points = [point for point in points if first <= point <= last]

        def problem_of(point):
            killed = lab.job(**how)
            done = lab.sutor("train", killed.recipe,
                             env=shim(lab, f"any:{killed.run}:{point}:kill"))
            if done.code not in (-9, 0):
                return f"{label(operations, job, point)}: {done}"
            problem = lab.settle(killed, right, done.saved())
            shutil.rmtree(killed.recipe.parent, ignore_errors=not problem)
            return problem and f"{label(operations, job, point)}: {problem}"

        count.note(f"async {background}: {len(operations)} operations, {len(points)} points")
        count.each(lab, points, problem_of)


@row("T2o", "SIGKILL before every file operation of --overwrite: the old training or the new")
def overwrite(lab, count):
    how = {"steps": 2, "keep": 2}
    old = lab.job(**how)
    lab.must("train", old.recipe)
    before = {"metrics": old.metrics(), "checkpoints": old.steps()}
    job = lab.copy(old)
    _, operations = traced(lab, job, "train", job.recipe, "--overwrite")
    right = job.result()

    def problem_of(point):
        killed = lab.copy(old)
        done = lab.sutor("train", killed.recipe, "--overwrite",
                         env=shim(lab, f"any:{killed.run}:{point}:kill"))
        if done.code not in (-9, 0):
            return f"{label(operations, job, point)}: {done}"
        # The old training is gone only when a checkpoint of the new one is there.
        kept = any(path.is_dir() for path in killed.run.rglob("step-00000001"))
        if not kept:
            return (f"{label(operations, job, point)}: neither old nor new checkpoints "
                    f"(there were {before['checkpoints']})")
        again = lab.sutor("train", killed.recipe, "--overwrite")
        if again.code != 0:
            return f"{label(operations, job, point)}: --overwrite again: {again}"
        problem = lab.difference(killed, right)
        left = killed.leftovers()
        problem = problem or (f"leftovers {left}" if left else "")
        return problem and f"{label(operations, job, point)}: {problem}"

    points = points_of(operations)
    count.note(f"{len(operations)} operations, {len(points)} points")
    count.each(lab, points, problem_of)


@row("T27", "SIGKILL at each unlink of retention: no half of a checkpoint is offered")
def retention(lab, count):
    how = {"steps": 5, "keep": 2}
    right = lab.reference(1, **how)
    job = lab.job(**how)
    _, operations = traced(lab, job, "train", job.recipe)
    removals = [number for number, (name, path, *_) in enumerate(operations, 1)
                if name in ("unlink", "rename") and ".trash" in path]

    def problem_of(point):
        killed = lab.job(**how)
        done = lab.sutor("train", killed.recipe,
                         env=shim(lab, f"any:{killed.run}:{point}:kill"))
        problem = lab.settle(killed, right, done.saved())
        return problem and f"{label(operations, job, point)}: {problem}"

    count.each(lab, removals, problem_of)
