#!/usr/bin/env python3
"""Speed and memory of `sutor convert` beside `cp` of the same files.

  python3 tests/bench/convert.py [--sutor PATH] [--work DIR] [--gib N] [--rounds N] [--ranks N]

Makes a model directory of random bytes in many shards, then in every round copies it (`cp -r`, then
`sync`) and converts it (digests on, then `sync`), in turns first. Before each the output of the one
before is deleted and synced, and the caches are dropped (root) or the source is read once (else, or
--warm). Prints a line of JSON: seconds and their spread, the ratio of the median speeds, the ratios
of the rounds, the peak memory. --back also measures the conversion back.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGETS = {"ratio": 0.80, "peak_rss_gib": 1.0}
# A layer of a small mixture of experts in bf16: three matrices an expert, a norm, a router.
SHAPES = [("mlp.experts.{e}.gate_proj", (1408, 2048)), ("mlp.experts.{e}.up_proj", (1408, 2048)),
          ("mlp.experts.{e}.down_proj", (2048, 1408))]
EXTRA = [("input_layernorm", (2048,)), ("mlp.gate", (64, 2048)), ("self_attn.o_proj", (2048, 2048))]


def shard_tensors(shard, budget):
    """(name, shape) of tensors of at most `budget` bytes in all."""
    tensors, used = [], 0
    names = EXTRA + [(n.format(e=e), s) for e in range(100000) for n, s in SHAPES]
    for name, shape in names:
        size = 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        if used + size > budget:
            break
        tensors.append((f"model.layers.{shard}.{name}.weight", shape, size))
        used += size
    return tensors


def make_model(folder, gib, shards):
    folder.mkdir(parents=True)
    weight_map, total = {}, 0
    generator = random.Random(1)
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, shape, size in shard_tensors(shard, int(gib * 2**30) // shards + (1 << 20)):
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            weight_map[name] = file
            at += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            while at > 0:
                at -= out.write(generator.randbytes(min(at, 16 << 20)))
            total += sum(s for _, _, s in shard_tensors(shard, out.tell()))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "random"}))
    os.sync()


def clean(args, source, *outputs):
    """Both start alike: no output, nothing to be written back, the same files cached."""
    for output in outputs:
        shutil.rmtree(output, ignore_errors=True)
    os.sync()
    if os.geteuid() == 0 and not args.warm:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
        return
    for path in source.iterdir():
        with open(path, "rb") as file:
            while file.read(16 << 20):
                pass


def timed(command):
    """Wall seconds with the sync at the end, and the peak memory of the largest process."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            log.seek(0)
            sys.exit(f"{command} failed: {log.read().decode()}")
    os.sync()
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def spread(values):
    values = sorted(values)
    return {"median": round(statistics.median(values), 2), "lowest": round(values[0], 2),
            "highest": round(values[-1], 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sutor", type=pathlib.Path, default=HERE.parents[1] / "build" / "sutor")
    parser.add_argument("--work", type=pathlib.Path, help="the file system to measure")
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--warm", action="store_true", help="do not drop the caches")
    parser.add_argument("--back", action="store_true", help="also the conversion back")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    args = parser.parse_args()
    launcher = ["mpiexec", "-n", args.ranks] if args.ranks > 1 else []
    if args.work:
        pathlib.Path(args.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as scratch:
        work = pathlib.Path(scratch)
        source, copy, store, back = (work / n for n in ("model", "copy", "base", "back"))
        make_model(source, args.gib, args.shards)
        convert = launcher + [args.sutor.resolve(), "convert", "--from"]
        runs = [("cp", source, ["cp", "-r", source, copy]),
                ("convert", source, convert + [source, "--to", store])]
        found, peak = {"cp": [], "convert": [], "back": []}, 0
        for number in range(args.rounds):
            for name, reads, command in runs if number % 2 == 0 else runs[::-1]:
                clean(args, reads, copy, store)
                seconds, rss = timed(command)
                found[name].append(seconds)
                peak = max(peak, rss) if name != "cp" else peak
            if args.back:
                if not store.exists():
                    timed(convert + [source, "--to", store])
                clean(args, store, copy, back)
                seconds, rss = timed(convert + [store, "--to", back])
                found["back"].append(seconds)
                peak = max(peak, rss)
        ratios = [cp / ours for cp, ours in zip(found["cp"], found["convert"])]
        size = sum(path.stat().st_size for path in source.iterdir())
    result = {
        "gib": round(size / 2**30, 2), "ranks": args.ranks, "rounds": args.rounds,
        "caches": "warm" if args.warm or os.geteuid() else "dropped",
        **{name: spread(values) for name, values in found.items() if values},
        "ratio": round(statistics.median(found["cp"]) / statistics.median(found["convert"]), 3),
        "ratio_of_rounds": spread(ratios), "peak_rss_gib": round(peak / 2**30, 3)}
    print(json.dumps(result))
    failed = result["ratio"] < TARGETS["ratio"] or result["peak_rss_gib"] > TARGETS["peak_rss_gib"]
    print(f"targets: ratio at least {TARGETS['ratio']}, memory at most "
          f"{TARGETS['peak_rss_gib']} GiB: {'missed' if failed else 'met'}")
    return int(args.check and failed)


if __name__ == "__main__":
    sys.exit(main())
