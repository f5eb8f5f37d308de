"""T23, T31, T38, T40: another job in the folder, other inputs, strange names, clocks and modes."""

import json
import os
import re
import shutil
import stat
import time

from calls import shim
from processes import jobs
from table import row

SLOW = "write:/metrics.jsonl:1:w50:0"
AT_ONCE_SECONDS = 10


@row("T23", "a second job in the folder exits 4 at once and names the first, which goes on")
def second_job(lab, count):
    how = {"steps": 60, "every": 5}
    right, job = lab.reference(1, **how), lab.job(**how)
    gate = lab.folder / "gate"
    gate.touch()  # the first job waits in a step until it is removed
    first = lab.start("train", job.recipe, env=shim(lab, "write:/metrics.jsonl:7:gate", gate=gate))
    first.wait_for(r"^step 6/")
    pid = first.ranks()[0] if first.ranks() else 0
    verbs = [("train",), ("train", "--resume"), ("train", "--overwrite"), ("run",), ("prepare",),
             ("score",), ("select",), ("export",)]
    for words in verbs:
        began = time.monotonic()
        done = lab.sutor(words[0], job.recipe, *words[1:])
        seconds = time.monotonic() - began
        problem = ""
        if done.code != 4:
            problem = str(done)
        elif seconds > AT_ONCE_SECONDS:
            problem = f"only after {seconds:.0f} s"
        elif str(pid) not in done.err:
            problem = f"does not name process {pid}: {done.err[-300:]}"
        count.state(" ".join(words), problem)
    two = lab.sutor("train", job.recipe, "--resume", "--set", "parallel.ep=2", ranks=2)
    count.state("train of two ranks", "" if two.code == 4 else str(two))
    gate.unlink()
    done = first.wait()
    count.state("the first job", lab.difference(job, right) if done.code == 0 else str(done))
    copies_of_one_job(lab, count)
    dead_owner(lab, count)


def copies_of_one_job(lab, count):
    """Started at once, as by a launcher that does not connect them: one trains."""
    how = {"steps": 20, "every": 5}
    right, job = lab.reference(1, **how), lab.job(**how)
    copies = [lab.start("train", job.recipe, env=shim(lab, SLOW)) for _ in range(4)]
    codes = sorted(copy.wait().code or 0 for copy in copies)
    count.state("four copies at once", lab.difference(job, right) if codes == [0, 4, 4, 4]
                else f"exit codes {codes}")


def dead_owner(lab, count):
    for ranks in (1, 2):
        how = {"steps": 12, "every": 3, "parallel": f"ep: {ranks}"}
        right, job = lab.reference(ranks, **how), lab.job(**how)
        first = lab.start("train", job.recipe, ranks=ranks, env=shim(lab, SLOW))
        first.wait_for(r"^step 5/")
        first.kill()
        for pid in jobs.pids_of(str(job.recipe)):
            jobs.kill(pid)
        count.state(f"a dead owner, {ranks} ranks", lab.settle(job, right, ranks=ranks))


@row("T31", "resumed with another base, config, selection, seed or schedule: refused, named")
def other_inputs(lab, count):
    how = {"steps": 4}
    model, other = lab.folder / "model", lab.folder / "other_model"
    lab.must("init-model", "--family", "qwen3_moe", "--seed", "9", "--out", other,
             *[word for key, value in json.loads((model / "config.json").read_text()).items()
               if key in ("hidden_size", "head_dim", "moe_intermediate_size", "vocab_size",
                          "num_hidden_layers", "num_experts_per_tok")
               for word in ("--set", f"{key}={value}")])
    changed = {}
    for key, value in (("num_experts_per_tok", 3), ("rope_theta", 500000.0),
                       ("rms_norm_eps", 1e-3), ("norm_topk_prob", False)):
        changed[key] = lab.folder / f"model_{key}"
        shutil.copytree(model, changed[key])
        config = json.loads((model / "config.json").read_text())
        (changed[key] / "config.json").write_text(json.dumps({**config, key: value}, indent=2))
    experts = lab.folder / "other_experts.json"
    experts.write_text((lab.folder / "experts.json").read_text().replace("[1]", "[7]"))
    shape = lab.folder / "fewer_experts.json"
    shape.write_text((lab.folder / "experts.json").read_text().replace("[3, 5]", "[3]"))
    cases = [("another base", [f"model.path={other}"], (3,)),
             *[(f"config.json: {key}", [f"model.path={path}"], (3,))
               for key, path in changed.items()],
             ("other experts", [f"esft.config={experts}"], (3,)),
             ("fewer experts", [f"esft.config={shape}"], (3,)),
             ("seed", ["train.seed=7"], (2,)), ("lr", ["optim.lr=1e-4"], (2,)),
             ("schedule", ["schedule.name=cosine"], (2,)),
             ("batch", ["train.global_batch=8"], (2,)), ("clip", ["optim.clip=0.5"], (2,)),
             ("optimizer", ["optim.weight_decay=0"], (2,))]
    for name, sets, codes in cases:
        job = lab.job(**how)
        lab.must("train", job.recipe, "--set", "schedule.steps=2")
        before = job.metrics(), job.steps()
        done = lab.sutor("train", job.recipe, "--resume",
                         *[word for key in sets for word in ("--set", key)])
        problem = "" if done.code in codes and done.errors() else str(done)
        if (job.metrics(), job.steps()) != before:
            problem = problem or "the training was changed"
        count.state(name, problem)


@row("T38", "strange names in checkpoints/, clocks that jump: ignored, no crash")
def names_and_clocks(lab, count):
    how = {"steps": 4, "eval_every": 2}
    right = lab.reference(1, **how)
    names = ["step-1e3", "step--5", "step-99999999999999999999", "step-", "step-00000002x",
             "step-2", "STEP-00000003", "step-00000099.tmp.d", "stepp", "step-0x10", "s\nep-1"]
    job = lab.job(**how)
    lab.must("train", job.recipe, "--set", "schedule.steps=2")
    for name in names:
        (job.checkpoints / name).mkdir()
        (job.checkpoints / name / "MANIFEST.json").write_text("{}")
    (job.checkpoints / "step-00000077").write_text("a file")
    done = lab.sutor("train", job.recipe, "--resume")
    for name in names:
        count.state(repr(name), "" if (job.checkpoints / name).is_dir() else "it was removed")
        shutil.rmtree(job.checkpoints / name, ignore_errors=True)
    (job.checkpoints / "step-00000077").unlink(missing_ok=True)
    count.state("the training", str(done) if done.code else lab.difference(job, right))
    for seconds in (-86400 * 400, 86400 * 400):
        job = lab.job(**how)
        first = lab.sutor("train", job.recipe, "--set", "schedule.steps=2",
                          env=shim(lab, clock=seconds))
        count.state(f"clock {seconds:+} s, then right again",
                    str(first) if first.code else lab.settle(job, right))
        job = lab.job(**how)
        first = lab.sutor("train", job.recipe, env=shim(
            lab, clock=seconds, clock_after=60))
        count.state(f"clock {seconds:+} s meanwhile",
                    str(first) if first.code else lab.difference(job, right))


@row("T40", "the umask decides the modes of what is published; staging stays private")
def modes(lab, count):
    for mask in (0o000, 0o022, 0o027, 0o077):
        job = lab.job(steps=2, prepared=False)
        for words in (("prepare",), ("train",), ("export",)):
            done = lab.sutor(words[0], job.recipe, pre=lambda: os.umask(mask))
            if done.code != 0:
                count.state(f"umask {mask:03o} {words[0]}", str(done))
        wrong = {}
        for path in sorted(job.run.rglob("*")):
            found = stat.S_IMODE(path.lstat().st_mode)
            expected = (0o777 if path.is_dir() else 0o666) & ~mask
            if found != expected:
                name = re.sub(r"\d+", "N", path.name)
                wrong[name] = f"{name} {found:03o} for {expected:03o}"
        count.state(f"umask {mask:03o}", ", ".join(wrong.values()))
    job = lab.job(steps=2)
    lab.sutor("train", job.recipe, env=shim(lab, "create:w0000.idx:1:kill"),
              pre=lambda: os.umask(0))
    private = [stat.S_IMODE(path.stat().st_mode) for path in job.checkpoints.glob(".staging-*")]
    count.state("staging", "" if private == [0o700] else f"modes {[oct(m) for m in private]}")
