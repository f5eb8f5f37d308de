"""T30, T33, T41: bytes that must come out as they went in."""

import json
import pathlib
import struct
import subprocess
import time

from calls import shim
from lab import EXPERTS
from table import NotPossible, row

# bf16: two quiet NaNs with payloads, a signalling one, -0, subnormals, -Inf, largest
ODD_BF16 = (0x7FC1, 0xFFFF, 0x7F81, 0x8000, 0x0001, 0x807F, 0xFF80, 0x7F7F)


def safetensors(path):
    """name -> (dtype, shape, bytes)"""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], tuple(entry["shape"]),
                   data[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]])
            for name, entry in header.items()}


@row("T30", "train, save, export: all but the chosen experts is the base's, byte for byte",
     short=True)
def frozen_bytes(lab, count):
    job = lab.job(steps=3)
    lab.must("train", job.recipe)
    lab.must("export", job.recipe)
    base = safetensors(lab.folder / "model" / "model.safetensors")
    merged = safetensors(job.run / "export" / "merged" / "model.safetensors")
    trained = tuple(f"layers.{layer}.mlp.experts.{expert}."
                    for layer, experts in EXPERTS["experts"].items() for expert in experts)
    count.state("names", "" if base.keys() == merged.keys() else "other tensors")
    for name, value in base.items():
        chosen = any(part in name for part in trained)
        equal = merged.get(name) == value
        count.state(name, "" if equal != chosen else
                    "is as before" if chosen else "is not the base's")
    diff = lab.sutor("diff", lab.folder / "model", job.run / "export" / "merged")
    count.state("diff", "" if diff.code == 1 and "equal" in diff.out else str(diff))
    count.state("diff of a model with itself", "" if lab.sutor(
        "diff", lab.folder / "model", lab.folder / "model").code == 0 else "they differ")


@row("T33", "a save in the background holds the values of its step, however slow the disk is")
def snapshot(lab, count):
    if lab.asyncs == [None]:
        raise NotPossible("this program saves synchronously")
    how = {"steps": 8, "every": 2, "keep": 8}
    for ranks in (1, 2):
        parallel = f"ep: {ranks}"
        plain, slow = (lab.job(**how, parallel=parallel, background=background)
                       for background in (False, True))
        lab.must("train", plain.recipe, ranks=ranks)
        lab.must("train", slow.recipe, ranks=ranks, env=shim(
            lab, "write:.staging-*w000:1:w3:0;fsync:.staging-*w000:1:w100:0"))
        for step in plain.steps():
            a, b = ({path.name: path.read_bytes() for path in job.step(step).glob("w*.h5")}
                    for job in (plain, slow))
            count.state(f"{ranks} ranks, step {step}", "" if a == b else "other values")
    binaries = sorted(pathlib.Path(lab.program).parent.rglob("*_test"))
    for binary in binaries:
        listed = subprocess.run([binary, "--gtest_list_tests"], capture_output=True, text=True)
        if "napshot" in listed.stdout:
            done = subprocess.run([binary, "--gtest_filter=*napshot*"], capture_output=True,
                                  text=True, timeout=120)
            count.state(f"{binary.name} *napshot*", "" if done.returncode == 0
                        else done.stdout[-300:])
            return
    count.note("no unit test of a snapshot was found beside the program")


@row("T41", "NaN payloads, -0, subnormals: through a base store and back, byte for byte")
def odd_values(lab, count):
    for dtype in ("bf16", "fp16", "fp32"):
        model = lab.folder / f"odd-{dtype}"
        lab.must("init-model", "--family", "qwen3_moe", "--dtype", dtype, "--out", model,
                 "--set", "hidden_size=16", "--set", "vocab_size=48")
        path = model / "model.safetensors"
        data = bytearray(path.read_bytes())
        begin = 8 + struct.unpack("<Q", data[:8])[0]
        for at in range(begin, len(data) - 64, 400):
            data[at:at + 16] = struct.pack("<8H", *ODD_BF16)
        path.write_bytes(data)
        store, back = lab.folder / f"store-{dtype}", lab.folder / f"back-{dtype}"
        lab.must("convert", "--from", model, "--to", store, "--verify")
        lab.must("convert", "--from", store, "--to", back)
        for file in model.iterdir():
            count.state(f"{dtype} {file.name}",
                        "" if (back / file.name).read_bytes() == file.read_bytes() else "differs")


@row("T39", "500 saves in one process: descriptors, memory and files stay the same")
def many_saves(lab, count):
    saves = 500
    for ranks in (1, 2):
        for background in lab.asyncs:
            job = lab.job(steps=saves, parallel=f"ep: {ranks}", background=background)
            started = lab.start("train", job.recipe, ranks=ranks)
            seen = []
            while started.process.poll() is None:
                steps = job.steps()
                if steps:
                    seen += [(steps[-1], measures(pid), len(list(job.checkpoints.iterdir())))
                             for pid in started.ranks()]
                time.sleep(0.1)
            done = started.wait()
            count.state(f"{ranks} ranks, async {background}",
                        flat_problem(seen, saves) if done.code == 0 else str(done))
            sizes = {sum(f.stat().st_size for f in job.step(step).iterdir())
                     for step in job.steps()}
            count.state(f"{ranks} ranks, async {background}: bytes of each save",
                        "" if max(sizes) - min(sizes) < 64 else str(sizes))


def measures(pid):
    """(descriptors, resident MB) of a process; zeros when it is gone."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) >> 10
        return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir())), resident
    except (OSError, IndexError):
        return 0, 0


def flat_problem(seen, saves):
    early = [entry for entry in seen if saves * 0.1 < entry[0] < saves * 0.4]
    late = [entry for entry in seen if entry[0] > saves * 0.7]
    if not early or not late:
        return f"the harness: saw only {len(seen)} moments"
    for name, value, room in (("descriptors", lambda e: e[1][0], 3),
                              ("resident MB", lambda e: e[1][1], 10),
                              ("names in checkpoints/", lambda e: e[2], 3)):
        before, after = (max(map(value, entries)) for entries in (early, late))
        if after > before + room:
            return f"{name} rose from {before} to {after}"
    return ""
