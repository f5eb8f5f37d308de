"""T5-T11, T42, F1-F4: operations of a save that fail, are cut short, lie, or are not there. The
rank that fails is one of two; the old checkpoint stays whole, and the training goes on."""

import errno
import os
import resource
import shutil
import subprocess

from calls import shim
from lab import leftovers_problem
from table import NotPossible, row

RANKS = 2
HOW = {"steps": 3, "parallel": f"ep: {RANKS}"}

# Operation, part of the path: of the save of step 2, of rank 0, or of rank 1 too.
STEPS_OF_A_SAVE = [
    ("mkdir", "/.staging-00000002", 0), ("create", "/.staging-00000002*OWNER", 0),
    ("create", "/.staging-00000002*w0000.h5", 0), ("create", "/.staging-00000002*w0001.h5", 1),
    ("fallocate", "/.staging-00000002*w0000.h5", 0), ("write", "/.staging-00000002*w0000.h5", 0),
    ("write", "/.staging-00000002*w0001.h5", 1), ("fsync", "/.staging-00000002*w0001.h5", 1),
    ("write", "/.staging-00000002*w0001.idx", 1), ("fsync", "/.staging-00000002*w0000.idx", 0),
    ("write", "/.staging-00000002*state.h5", 0), ("write", "/.staging-00000002*MANIFEST.json", 0),
    ("fsync", "/.staging-00000002*MANIFEST.json", 0), ("rename2", "/step-00000002", 0)]
AFTER_PUBLISHING = [("write", "/.LATEST.", 0), ("rename", "/LATEST", 0)]


def failed_save_problem(lab, operation, part, action, rank=-1, nth=1, times=0, expected=(5,),
                        **how):
    """A save of step 2 in which these calls fail: no hang, no crash, one of the exit codes with a
    message, step 1 whole; then the disk is well again, and the training ends as if undisturbed."""
    how = {**HOW, **how}
    right = lab.reference(RANKS, **how)
    job = lab.job(**how)
    call = operation if rank < 0 else f"{operation}@{rank}"
    rule = f"{call}:{part}:{nth}:{action}:{times}"
    done = lab.sutor("train", job.recipe, ranks=RANKS, env=shim(lab, rule))
    if done.code is None:
        return f"{rule}: hangs"
    if done.code == 0:
        # Nothing was hit, or the program found another way: then the result is the right one.
        wrong = lab.difference(job, right)
        verified = lab.sutor("verify", job.checkpoints)
        if wrong or verified.code != 0:
            return f"{rule}: exit 0, but {wrong or verified.out[-200:]}"
        return ""
    if done.code not in expected or not done.errors():
        return f"{rule}: {done}"
    if 1 not in job.steps() and max(job.steps(), default=0) < 2:
        return f"{rule}: step 1 is gone, there are {job.steps()}"
    problem = lab.settle(job, right, done.saved(), ranks=RANKS) or leftovers_problem(job)
    return f"{rule}: {problem}" if problem else ""


def named(errors):
    return [(name, getattr(errno, name)) for name in errors]


@row("T5", "ENOSPC at each operation of a save, one rank of two: named, OLD, no hang", short=True)
def no_space(lab, count):
    cases = [(operation, part, 1, 0) for operation, part, _ in STEPS_OF_A_SAVE]
    # Of the second save alone: whatever becomes of that one, the third sets the names right.
    cases += [(operation, part, 2, 1) for operation, part, _ in AFTER_PUBLISHING]
    if lab.options.short:
        cases = cases[::3]
    count.each(lab, cases, lambda case: failed_save_problem(
        lab, case[0], case[1], f"e{errno.ENOSPC}", nth=case[2], times=case[3]))


@row("T6", "ENOSPC on one rank, then space: the next start saves")
def one_rank_without_space(lab, count):
    cases = [("write", nth) for nth in (1, 2, 5, 9, 14)] + [("fallocate", 1), ("create", 1)]
    count.each(lab, cases, lambda case: failed_save_problem(
        lab, case[0], ".staging-00000002*w0001", f"e{errno.ENOSPC}", rank=1, nth=case[1], times=1))


@row("T7", "EIO in the nth write of a file: an error, not a crash; never reported as saved",
     short=True)
def failing_writes(lab, count):
    cases = [(name, nth) for name in ("w0000.h5", "w0001.h5", "w0000.idx", "state.h5",
                                      "MANIFEST.json")
             for nth in ((1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 35, 40) if name[0] == "w" else (1, 2))
             if not name.endswith("idx") or nth < 3]
    if lab.options.short:
        cases = cases[::6]
    count.each(lab, cases, lambda case: failed_save_problem(
        lab, "write", f".staging-00000002*{case[0]}", f"e{errno.EIO}", nth=case[1], times=1))


@row("T8", "EIO once from an fsync: that file is not trusted again", short=True)
def failing_fsyncs(lab, count):
    files = ["w0000.h5", "w0001.h5", "w0000.idx", "state.h5", "MANIFEST.json", ""]
    if lab.options.short:
        files = files[:2]
    count.each(lab, files, lambda name: failed_save_problem(
        lab, "fsync", f".staging-00000002*{name}", f"e{errno.EIO}", times=1))


@row("T9", "short writes: the same bytes")
def short_writes(lab, count):
    count.each(lab, ["w0000.h5", "w0000.idx", "state.h5", "MANIFEST.json", "LATEST", ".jsonl"],
               lambda name: same_bytes_problem(lab, f"write:{name}:1:short:0"))


def same_bytes_problem(lab, rule):
    right = lab.reference(RANKS, **HOW)
    job = lab.job(**HOW)
    done = lab.sutor("train", job.recipe, ranks=RANKS, env=shim(lab, rule))
    if done.code != 0:
        return f"{rule}: {done}"
    problem = lab.difference(job, right) or leftovers_problem(job)
    return f"{rule}: {problem}" if problem else ""


@row("T10", "dropped and flipped writes: not published, or found and passed over", short=True)
def lying_writes(lab, count):
    cases = [(action, name, nth) for action in ("drop", "flip")
             for name in ("w0000.h5", "w0001.h5", "w0000.idx", "state.h5", "MANIFEST.json")
             for nth in ((1, 2, 4, 9, 16, 30) if name.endswith("h5") else (1,))]
    if lab.options.short:
        cases = cases[::7]
    count.each(lab, cases, lambda case: lie_problem(lab, *case))


def lie_problem(lab, action, name, nth):
    """Of the last save: an error, or a checkpoint that is found out and passed over."""
    rule = f"write:.staging-00000003*{name}:{nth}:{action}"
    right = lab.reference(RANKS, **HOW)
    job = lab.job(**HOW)
    done = lab.sutor("train", job.recipe, ranks=RANKS, env=shim(lab, rule))
    if done.code is None or done.code < 0 or done.code > 127:
        return f"{rule}: {done}"
    verified = lab.sutor("verify", job.checkpoints)
    whole = done.code == 0 and not lab.difference(job, right)
    if done.code == 0 and verified.code == 0 and not whole:
        return f"{rule}: reported as saved and verified, but other bytes"
    again = lab.sutor("train", job.recipe, "--resume", ranks=RANKS)
    if again.code != 0:
        return f"{rule}: --resume does not go on: {again}"
    problem = lab.difference(job, right)
    verified = lab.sutor("verify", job.checkpoints)
    if not problem and verified.code != 0:
        problem = f"after --resume verify says {verified.out[-200:]}"
    return f"{rule}: {problem}" if problem else ""


@row("T11", "EDQUOT, EROFS, EACCES, ENOENT, EMFILE, RLIMIT_FSIZE: named, OLD, no crash")
def other_errors(lab, count):
    cases = [(operation, part, name, number)
             for name, number in named(["EDQUOT", "EROFS", "EACCES", "ENOENT", "EMFILE"])
             for operation, part, _ in (STEPS_OF_A_SAVE[0], STEPS_OF_A_SAVE[3],
                                        STEPS_OF_A_SAVE[6], STEPS_OF_A_SAVE[13])
             if not (name == "ENOENT" and operation == "rename2")]
    count.each(lab, cases, lambda case: failed_save_problem(
        lab, case[0], case[1], f"e{case[3]}"))
    count.state("RLIMIT_FSIZE", size_limit_problem(lab))


def size_limit_problem(lab):
    right = lab.reference(1, steps=3)
    job = lab.job(steps=3)
    done = lab.sutor("train", job.recipe,
                     pre=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)))
    if done.code != 5 or not done.errors():
        return str(done)
    return lab.settle(job, right, done.saved())


@row("F1", "EINVAL from renameat2 and fallocate: another way is taken")
def einval(lab, count):
    absent(lab, count, errno.EINVAL, operations=("rename2",))


@row("F2", "EOPNOTSUPP and ENOSYS from renameat2 and fallocate: another way is taken")
def not_supported(lab, count):
    absent(lab, count, errno.EOPNOTSUPP)
    absent(lab, count, errno.ENOSYS)


@row("F3", "error 524 from renameat2 and fallocate: another way is taken")
def error_524(lab, count):
    absent(lab, count, 524)


def absent(lab, count, number, operations=("rename2", "fallocate")):
    count.each(lab, [f"{operation}:/:1:e{number}:0" for operation in operations],
               lambda rule: same_bytes_problem(lab, rule))


@row("F4", "ENOENT of a rename that a network file system repeated: it was done")
def repeated_rename(lab, count):
    count.each(lab, ["rename2:/step-:1:again:0", "rename2:/:1:e22:0;rename:/step-:1:again:0"],
               lambda rule: same_bytes_problem(lab, rule))


@row("F5", "ENOLCK, ENOTSUP, ENOSYS from flock: another way is taken")
def no_locks(lab, count):
    count.each(lab, [f"flock:/:1:e{number}:0" for _, number in
                     named(["ENOLCK", "ENOTSUP", "ENOSYS"])],
               lambda rule: same_bytes_problem(lab, rule))


@row("T42", "a full, missing or unwritable place is refused before the model is read")
def preflight(lab, count):
    job = lab.job()
    (job.run / "checkpoints").mkdir()
    if os.geteuid() == 0:
        full = lab.folder / "full"
        full.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", full],
                                 capture_output=True, text=True)
        if mounted.returncode:
            raise NotPossible("cannot mount a tmpfs")
        try:
            shutil.copytree(job.run, full / "run")
            (full / "fill").write_bytes(bytes(20 << 10))
            count.state("full disk", early_problem(lab, job, full / "run", (5,)))
        finally:
            subprocess.run(["umount", full], check=True)
    else:
        count.note("the full disk needs root")
    (lab.folder / "file").write_text("no folder")
    count.state("output below a file", early_problem(
        lab, job, lab.folder / "file" / "run", (2, 3, 5)))
    count.state("checkpoints/ cannot be written", early_problem(
        lab, job, job.run, (5,), shim(lab, f"mkdir:/checkpoints/:1:e{errno.EACCES}:0;"
                                           f"create:/checkpoints/:1:e{errno.EACCES}:0")))


def early_problem(lab, job, output, codes, env=None):
    done = lab.sutor("train", job.recipe, "--set", f"output={output}", env=env)
    if done.code not in codes or not done.errors():
        return str(done)
    return "it trained first" if "step 1/" in done.out else ""
