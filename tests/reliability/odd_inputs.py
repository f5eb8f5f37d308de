"""T22, T43: an index that lies, and things that are no files in the place of each input."""

import json
import os
import pathlib
import shutil

from hostile_files import FAST_SECONDS, limited, refused
from table import row


@row("T22", "model.safetensors.index.json that lies: named")
def hostile_index(lab, count):
    model = lab.folder / "sharded"
    lab.must("init-model", "--family", "qwen3_moe", "--shard-size", "300KB", "--out", model)
    text = (model / "model.safetensors.index.json").read_text()
    index = json.loads(text)
    names, shards = list(index["weight_map"]), sorted(set(index["weight_map"].values()))

    def mapped(**changes):
        return json.dumps({**index, "weight_map": {**index["weight_map"], **changes}})

    cases = {
        "a tensor missing": json.dumps({**index, "weight_map": {
            name: shard for name, shard in index["weight_map"].items() if name != names[0]}}),
        "a tensor elsewhere": mapped(**{names[0]: next(
            s for s in shards if s != index["weight_map"][names[0]])}),
        "a tensor too many": mapped(**{"model.nothing.weight": shards[0]}),
        "no such shard": mapped(**{names[0]: "model-00099-of-00099.safetensors"}),
        "../x": mapped(**{names[0]: "../model.safetensors"}),
        "absolute": mapped(**{names[0]: "/etc/hostname"}),
        "a folder": mapped(**{names[0]: "."}), "a number": mapped(**{names[0]: 7}),
        "a name twice": text.replace('"weight_map": {', '"weight_map": {"%s": "%s", '
                                     % (names[0], shards[0]), 1),
        "no weight_map": "{}", "no JSON": text[:-9], "a list": "[]", "empty": ""}

    def problem_of(title):
        folder = lab.folder / f"sharded {title.replace('/', ' ')}"
        shutil.copytree(model, folder)
        (folder / "model.safetensors.index.json").write_text(cases[title])
        problem = refused(lab, "verify", folder)
        return problem and f"{title}: {problem}"

    count.each(lab, cases, problem_of)
    lost = lab.folder / "sharded, one lost"
    shutil.copytree(model, lost)
    (lost / shards[-1]).unlink()
    count.state("a shard is missing", refused(lab, "verify", lost, naming=shards[-1]))


@row("T43", "FIFOs, devices, folders, endless files in place of each input: refused at once")
def no_files(lab, count):
    def fifo(path):
        os.mkfifo(path)

    def device(path):
        os.symlink("/dev/zero", path)

    kinds = {"FIFO": fifo, "/dev/zero": device, "folder": pathlib.Path.mkdir,
             "nothing": lambda path: None, "link to itself": lambda path: os.symlink(path, path)}
    inputs = ["model/config.json", "model/model.safetensors", "rows.jsonl", "experts.json",
              "recipe.yaml", "run/tokens/*.h5", "run/checkpoints/step-00000002/MANIFEST.json",
              "run/checkpoints/step-00000002/w0000.h5", "run/checkpoints/LATEST"]
    cases = [(name, kind) for name in inputs for kind in kinds]
    job = lab.job(steps=2)
    lab.must("train", job.recipe)
    for name, kind in cases[::4] if lab.options.short else cases:
        attacked = with_own_inputs(lab, job)
        folder = attacked.recipe.parent
        path = next(folder.glob(name))
        path.unlink()
        kinds[kind](path)
        verb = ("prepare", "--overwrite") if name == "rows.jsonl" else ("train", "--resume")
        done = lab.sutor(verb[0], attacked.recipe, "--set", "schedule.steps=3", *verb[1:],
                         timeout=FAST_SECONDS, pre=limited)
        harmless = name.endswith("LATEST") or "step-" in name or "tokens" in name
        problem = "" if done.code in (2, 3) and done.errors() or (harmless and done.code == 0) \
            else str(done)
        count.state(f"{kind} in place of {name}", problem)


def with_own_inputs(lab, job):
    """A copy of a training whose model, rows and expert config are in its folder."""
    copy = lab.copy(job)
    folder = copy.recipe.parent
    shutil.copytree(lab.folder / "model", folder / "model")
    for name in ("rows.jsonl", "held.jsonl", "experts.json"):
        shutil.copy(lab.folder / name, folder / name)
    text = copy.recipe.read_text()
    for name in ("model", "rows.jsonl", "held.jsonl", "experts.json"):
        text = text.replace(f"{lab.folder}/{name}", f"{folder}/{name}")
    copy.recipe.write_text(text)
    return copy
