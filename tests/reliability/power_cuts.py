"""T3, T4: the power of a disk goes before every file operation: an ext4 in a file, mounted by loop,
and its shutdown ioctl, which drops all that was not synced. Needs root."""

import os
import re
import shutil
import subprocess

from crash_points import HOW, label, points_of, sample
from calls import shim, traced
from table import NotPossible, row


class Disk:
    """An ext4 whose power can go."""

    def __init__(self, lab, number):
        if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
            raise NotPossible("needs root and mkfs.ext4")
        self.lab, self.image = lab, lab.folder / f"disk-{number}.img"
        self.mounted = lab.folder / f"disk-{number}"
        self.mounted.mkdir()
        with lab.lock:
            lab.disks.append(self)
        with open(self.image, "wb") as file:
            file.truncate(24 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.mount()

    def mount(self):
        done = subprocess.run(["mount", "-o", "loop", self.image, self.mounted],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise NotPossible(f"cannot mount: {done.stderr.strip()}")

    def again(self):
        """After the power came back."""
        subprocess.run(["umount", self.mounted], check=True)
        self.mount()

    def sync(self):
        subprocess.run(["sync", "-f", self.mounted], check=True)

    def close(self):
        subprocess.run(["umount", self.mounted], capture_output=True)
        self.image.unlink(missing_ok=True)
        with self.lab.lock:
            if self in self.lab.disks:
                self.lab.disks.remove(self)


def cut_problem(lab, name, how, right, point, dropped=None):
    """What is wrong after the power went before operation `point` of a training in which operation
    `dropped` was said to be done and was not."""
    disk = Disk(lab, name)
    try:
        job = lab.job(where=disk.mounted, **how)
        disk.sync()
        rules = f"any:{job.run}:{point}:cut"
        if dropped:
            rules += f";any:{job.run}:{dropped}:drop"
        done = lab.sutor("train", job.recipe, env=shim(lab, rules, disk=disk.mounted))
        if done.code not in (-9, 0):
            return f"{done}"
        if done.code == 0:  # fewer operations than expected: the power goes at the end
            subprocess.run(["python3", "-c", CUT, disk.mounted], check=True)
        disk.again()
        return pointers_problem(job) or lab.settle(job, right, done.saved())
    finally:
        disk.close()


CUT = """
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", 2))
"""


def pointers_problem(job):
    """LATEST and BEST are old or new, and whole; the lines before a checkpoint are there."""
    steps = job.steps()
    for name in ("LATEST", "BEST"):
        if (job.checkpoints / name).exists() and not (job.pointer(name) or "").startswith("step-"):
            return f"{name} reads {job.pointer(name)!r}"
    try:
        lines = [line[0] for line in job.metrics()]
    except ValueError:
        lines = None
    if steps and lines is not None and lines[:steps[-1]] != list(range(1, steps[-1] + 1)):
        return f"checkpoint of step {steps[-1]}, but metrics.jsonl has the lines {lines}"
    return ""


@row("T3", "power cut before every file operation: OLD or NEW, NEW once reported", short=True)
def every_operation(lab, count):
    for background in lab.asyncs[:1] if lab.options.short else lab.asyncs:
        how = {**HOW, "background": background}
        right = lab.reference(1, **how)
        job = lab.job(**how)
        _, operations = traced(lab, job, "train", job.recipe)
        points = sample(lab, points_of(operations, every=40), f"T3 {background}", 12)

        def problem_of(point):
            problem = cut_problem(lab, f"t3-{background}-{point}", how, right, point)
            return problem and f"{label(operations, job, point)}: {problem}"

        count.note(f"async {background}: {len(operations)} operations, {len(points)} points")
        count.each(lab, points, problem_of)


# What ext4 loses without an fsync of its own: the bytes of files. Names are in its journal, which
# the next fsync of anything commits.
FILES = re.compile(r"/(w\d+\.h5|w\d+\.idx|state\.h5|MANIFEST\.json)$")


@row("T4e", "with any one fsync or rename of a save dropped, a power cut on ext4 shows it")
def mutations_on_ext4(lab, count):
    how = {"steps": 3, "keep": 1, "background": lab.asyncs[-1]}
    right = lab.reference(1, **how)
    job = lab.job(**how)
    _, operations = traced(lab, job, "train", job.recipe)
    points = points_of(operations, every=1000)
    save = protocol(operations)
    # What is bad without a mutation proves nothing about one.
    known = {kind_of(cut_problem(lab, f"t4-0-{point}", how, right, point))
             for point in [p for p in points if save[0] < p <= save[-1] + 7][::2]}
    for kind in known - {""}:
        count.note(f"bad with all of them, so not counted here: {kind}")
    published = next(i for i in save if operations[i - 1][0] == "rename"
                     and operations[i - 1][1].endswith("step-00000002"))
    unseen = []

    def seen(position):
        name = label(operations, job, position).replace("before", "without")
        for point in [p for p in points if p > max(position, published)][:7]:
            # The job's folder has another name in each run; operations are counted under it.
            problem = cut_problem(lab, f"t4-{position}-{point}", how, right, point, position)
            if problem and kind_of(problem) not in known:
                count.note(f"{name}: seen, {problem[:120]}")
                return ""
        if FILES.search(operations[position - 1][1]):
            return f"{name}: no power cut shows it"
        unseen.append(name)
        return ""

    count.each(lab, save, seen)
    for name in unseen:
        count.note(f"{name}: ext4 does not show it (a later commit of its journal covers it); "
                   "row T4 has it, for file systems that promise no more than POSIX")


def kind_of(problem):
    return re.sub(r"/\S*|[0-9a-f]{16}|\d+", "N", problem)[:60]


def protocol(operations):
    """Positions of the fsyncs and renames of the second save."""
    saves = [i for i, o in enumerate(operations, 1) if o[0] == "mkdir" and ".staging-" in o[1]]
    return [i for i, o in enumerate(operations, 1)
            if saves[1] <= i < saves[2] and o[0] in ("fsync", "rename")]
