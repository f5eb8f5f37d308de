"""T13-T17, T24-T26: bytes of a checkpoint that changed, and folders that something else left.
Samples through the program; tests/unit/checkpoint flips every byte in one process."""

import os
import re
import shutil

from calls import shim
from table import row
from tiles import read_index

HOW = {"steps": 4, "keep": 4, "eval_every": 2}
FILES = ("MANIFEST.json", "w0000.idx", "state.h5", "w0000.h5")


class Damage:
    """A finished training, copies of which are damaged at the newest step."""

    def __init__(self, lab):
        self.lab, self.right = lab, lab.reference(1, **HOW)
        self.whole = lab.job(**HOW)
        lab.must("train", self.whole.recipe)

    def values(self, data):
        """The bytes of the tiles; what lies between them is for `verify` and for HDF5 alone."""
        tiles = read_index((self.whole.step(4) / "w0000.idx").read_bytes())[2]
        return [data[t["offset"]:t["offset"] + t["rows"] * t["columns"] * t["size"]]
                for t in tiles]

    def problem(self, name, change, named=None):
        """Damages a file of the newest checkpoint: `verify` must name it, or what is `named`, with
        exit code 3, and `train --resume` must fall back, train that step again, and end as if
        undisturbed."""
        job = self.lab.copy(self.whole)
        path = job.step(4) / name
        data = path.read_bytes()
        changed = change(data)
        if changed == data:
            return ""
        path.write_bytes(changed)
        checked = self.lab.sutor("verify", job.checkpoints)
        if checked.code != 3:
            return f"verify: {checked} {checked.out[-200:]}"
        if (named or name) not in checked.out + checked.err:
            return f"verify does not name {named or name}: {(checked.out + checked.err)[-300:]}"
        done = self.lab.sutor("train", job.recipe, "--resume")
        if done.code != 0:
            return f"train --resume: {done}"
        if "step-00000004" not in done.err:
            if name == "w0000.h5" and self.values(data) == self.values(changed):
                return self.lab.difference(job, {**self.right, "weights": job.result()["weights"]})
            return f"nothing was said of the damaged checkpoint: {done.err[-200:]}"
        again = self.lab.sutor("verify", job.checkpoints)
        if again.code != 0:
            return f"after --resume verify says {again.out[-200:]}"
        problem = self.lab.difference(job, self.right)
        shutil.rmtree(job.recipe.parent, ignore_errors=not problem)
        return problem


def flipped(at, bit=1):
    return lambda data: data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]


@row("T13", "flipped bytes: `verify` names the file, --resume falls back and goes on", short=True)
def flips(lab, count):
    damage, numbers, cases = Damage(lab), lab.random("T13"), []
    for name in FILES:
        size = (damage.whole.step(4) / name).stat().st_size
        places = {0, size - 1} | {numbers.randrange(size) for _ in range(14)}
        for at in sorted(places)[:3 if lab.options.short else None]:
            cases.append((name, at, 1 << numbers.randrange(8)))
    count.each(lab, cases, lambda case: damage.problem(case[0], flipped(*case[1:])))


@row("T14", "files cut at 0, 1, 8, 511, 512, n / 2, n - 1, and a byte more", short=True)
def truncations(lab, count):
    damage = Damage(lab)
    cases = [(name, cut) for name in FILES for cut in (0, 1, 8, 511, 512, "half", -1, "more")]
    if lab.options.short:
        cases = cases[::8]

    def problem_of(case):
        name, cut = case
        if cut == "more":
            return damage.problem(name, lambda data: data + b"\0")
        return damage.problem(
            name, lambda data: data[:len(data) // 2 if cut == "half" else cut])

    count.each(lab, cases, problem_of)


@row("T15", "a page of zeros")
def zero_pages(lab, count):
    damage = Damage(lab)
    cases = [(name, at) for name in FILES
             for at in range(0, (damage.whole.step(4) / name).stat().st_size, 4096)]

    count.each(lab, cases[:24], lambda case: damage.problem(
        case[0], lambda data: data[:case[1]] + bytes(len(data[case[1]:case[1] + 4096]))
        + data[case[1] + 4096:]))


@row("T16", "a file that opens, but whose data were never written")
def never_written(lab, count):
    damage = Damage(lab)
    end = (damage.whole.step(4) / "w0000.h5").stat().st_size

    def emptied(data):  # all behind the first 2 KiB that is not HDF5's own structure
        begin = next((m.start() for m in re.finditer(rb"OHDR|BTHD|FRHP", data[512:])), 0)
        return data[:2048 + begin] + bytes(max(0, end - 2048 - begin))

    count.state("w0000.h5", damage.problem("w0000.h5", emptied))
    count.state("w0000.h5, all but its first block",
                damage.problem("w0000.h5", lambda data: data[:512] + bytes(end - 512)))


@row("T17", "files of another step, another training, another rank: named")
def swapped(lab, count):
    damage = Damage(lab)
    other = lab.job(**HOW, change=lambda text: text.replace("lr: 1e-3", "lr: 2e-3"))
    lab.must("train", other.recipe)
    for name in FILES:
        for title, source in (("step 3", damage.whole.step(3)), ("other", other.step(4))):
            content = (source / name).read_bytes()
            count.state(f"{name} of {title}", damage.problem(
                name, lambda data: content,
                # Which of the two is foreign cannot be known.
                "step-00000004" if name == "MANIFEST.json" else None))
    two = lab.job(steps=2, parallel="ep: 2")
    lab.must("train", two.recipe, ranks=2)
    a, b = two.step(2) / "w0000.h5", two.step(2) / "w0001.h5"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    checked = lab.sutor("verify", two.checkpoints)
    count.state("ranks swapped", "" if checked.code == 3 else f"verify: {checked}")


@row("T24", "staging of dead and living jobs; LATEST that leads nowhere: kept or cleaned")
def strange_names(lab, count):
    right = lab.reference(1, **HOW)
    for text in ("step-00000099\n", "", "garbage", ".staging-00000005.0123456789abcdef\n",
                 "../step-00000001\n", "x" * 5000, "\0\0\0"):
        job = half_done(lab)
        (job.checkpoints / "LATEST").write_text(text)
        count.state(f"LATEST reads {text[:20]!r}", lab.settle(job, right))
    job = half_done(lab)
    staging = job.checkpoints / ".staging-00000003.0123456789abcdef"
    killed = lab.job(**HOW)
    left = dead_staging(lab, killed)
    if left is None:
        count.state("staging of a dead job", "the harness: the killed job left no staging")
    else:
        shutil.copytree(left, staging)
        count.state("staging of a dead job", lab.settle(job, right))


def half_done(lab):
    job = lab.job(**HOW)
    lab.must("train", job.recipe, "--set", "schedule.steps=2")
    return job


def dead_staging(lab, job):
    lab.sutor("train", job.recipe, env=shim(lab, "create:w0000.idx:3:kill"))
    return next(job.checkpoints.glob(".staging-00000003*"), None)


@row("T25", "retention counts whole checkpoints only, and never removes where it resumed from",
     short=True)
def keep_counts_whole(lab, count):
    for name in ("w0000.h5", "MANIFEST.json", "state.h5"):
        job = lab.job(steps=5, keep=2)
        lab.must("train", job.recipe, "--set", "schedule.steps=3")
        path = job.step(3) / name
        path.write_bytes(flipped(path.stat().st_size // 2)(path.read_bytes()))
        done = lab.sutor("train", job.recipe, "--resume")
        if done.code != 0:
            count.state(f"newest {name}", f"train --resume: {done}")
            continue
        whole = [step for step in job.steps()
                 if lab.sutor("verify", job.step(step)).code == 0]
        count.state(f"newest {name}", "" if len(whole) >= 2 else
                    f"keep 2: {job.steps()}, whole are {whole}")
        # An older one that is damaged does not take the place of a whole one either.
        job = lab.job(steps=5, keep=3)
        lab.must("train", job.recipe, "--set", "schedule.steps=4")
        path = job.step(3) / name
        path.write_bytes(flipped(path.stat().st_size // 2)(path.read_bytes()))
        lab.sutor("train", job.recipe, "--resume")
        whole = [step for step in job.steps()
                 if lab.sutor("verify", job.step(step)).code == 0]
        count.state(f"older {name}", "" if len(whole) >= 3 else
                    f"keep 3: {job.steps()}, whole are {whole}")


@row("T26", "links in place of folders: nothing outside is touched")
def links(lab, count):
    precious = lab.folder / "precious"
    (precious / "folder").mkdir(parents=True)
    (precious / "file").write_text("precious")
    (precious / "step-00000001").mkdir()
    (precious / "step-00000001" / "file").write_text("precious")
    places = ["checkpoints", "checkpoints/step-00000001", "checkpoints/.trash-00000001.0123",
              "checkpoints/.staging-00000001.0123456789abcdef", "metrics.jsonl", "eval.jsonl",
              "recipe.resolved.yaml", "checkpoints/LATEST", "checkpoints/BEST", "tensorboard"]
    (lab.folder / "precious" / "empty").mkdir()
    before = tree(precious)
    for place in places:
        for options in ((), ("--resume",), ("--overwrite",)):
            job = lab.job(steps=4, keep=1)
            if options:
                lab.must("train", job.recipe, "--set", "schedule.steps=2")
            path = job.run / place
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            is_file = ("." in path.name and path.name[0] != ".") or path.name.isupper()
            target = precious / ("file" if is_file else "" if options else "empty")
            path.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(target, path)
            done = lab.sutor("train", job.recipe, *options)
            problem = ""
            if tree(precious) != before:
                problem = f"what is outside was changed: exit {done.code}"
                shutil.rmtree(precious)
                restore(precious, before)
            elif done.code is None or done.code < 0 or done.code == 70:
                problem = str(done)
            count.state(f"{place} {' '.join(options)}", problem)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))}


def restore(folder, before):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in before.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
