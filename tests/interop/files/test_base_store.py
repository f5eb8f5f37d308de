"""`sutor convert`, `verify` and `diff`: base stores beside what they are made of."""

import json
import re
import shutil
import struct
import time

import h5py
import numpy as np
import pytest
import torch

import models
import runner
from artifacts import bytes_of, convert, tree

SHAPE = models.shape("ds-lite")
SHARDED = {"max_shard_size": 300_000}
SMALL_FILES = ("--max-file-bytes", "128KiB")


@pytest.fixture(scope="module")
def store(program, model_dir, tmp_path_factory):
    """store(shape, **form) -> (directory, base store of it in several files); made once."""
    base, made = tmp_path_factory.mktemp("stores"), {}

    def converted(shape=SHAPE, **form):
        form = form or SHARDED
        source = model_dir(shape, **form)
        if source not in made:
            made[source] = base / source.name
            convert(program, source, made[source], *SMALL_FILES)
        return source, made[source]

    return converted


@pytest.fixture(scope="module")
def trained(program, store, tmp_path_factory):
    """The same training from the directory and from its store: [directory's, store's]."""
    runs = []
    config = models.pick_experts(models.build(SHAPE), per_layer=3)
    for i, model in enumerate(store()):
        folder = tmp_path_factory.mktemp(f"trained-{i}")
        rows = runner.write_rows(models.sample_ids(SHAPE), folder / "rows.jsonl")
        run = runner.Run(program, folder, model, rows, config, steps=3, optim={"lr": 1e-2})
        run.set_section("data", {"eval": [{"path": str(rows), "name": "task"}]})
        run.prepare().train(ranks=2, ep=2)
        run.adapter, run.merged = run.export()
        runs.append(run)
    return runs


# ---- there and back

@pytest.mark.parametrize("name,form", [("ds-lite", SHARDED), ("qw-odd-bias-tied", SHARDED),
                                       ("qw-gqa", {"fused": True})], ids=lambda v: str(v))
def test_all_ranks_give_one_store_and_the_directory_back(program, model_dir, tmp_path, name, form):
    source = model_dir(models.shape(name), dtype="bf16", **form)
    if form == SHARDED:
        source = model_dir(models.shape(name), **form)
        assert len(list(source.glob("*.safetensors"))) > 2
    for ranks in (1, 2, 4):
        output = convert(program, source, tmp_path / f"store-{ranks}", "--verify", *SMALL_FILES,
                         ranks=ranks).output
        assert "byte-identical" in output
        assert tree(tmp_path / f"store-{ranks}") == tree(tmp_path / "store-1")
    assert len(list((tmp_path / "store-1").glob("b*.h5"))) > 2
    for ranks in (1, 4):
        convert(program, tmp_path / "store-1", tmp_path / f"back-{ranks}", "--verify", ranks=ranks)
        assert tree(tmp_path / f"back-{ranks}") == tree(source)


@pytest.mark.parametrize("form", [SHARDED, {"fused": True}], ids=lambda v: str(v))
def test_tiles_in_h5py_are_the_tensors(store, form):
    source, made = store(**form)
    tiles, shapes = {}, {}
    for path in sorted(made.glob("b*.h5")):
        with h5py.File(path, "r") as file:
            for name, group in file.items():
                shapes[name] = json.loads(group.attrs["shape"])
                for first, tile in group.items():
                    assert tile.chunks is None and tile.compression is None
                    tiles.setdefault(name, {})[int(first)] = tile[()]
                    # Its bytes lie where the library says, for readers without it.
                    with path.open("rb") as raw:
                        raw.seek(tile.id.get_offset())
                        assert raw.read(tile.nbytes) == tile[()].tobytes()
    expected = bytes_of(source)
    assert tiles.keys() == expected.keys()
    for name, (_, shape, data) in expected.items():
        assert shapes[name] == shape
        rows = tiles[name]
        assert b"".join(rows[i].tobytes() for i in sorted(rows)) == data, name
        assert np.concatenate([np.atleast_1d(rows[i]) for i in sorted(rows)]).shape[0] == shape[0]


# ---- the same results

def test_training_and_exports_equal_those_of_the_directory(trained):
    a, b = trained
    kept = ("step", "loss", "grad_norm", "lr", "tokens")
    assert [[repr(line[k]) for k in kept] for line in a.metrics()] == \
           [[repr(line[k]) for k in kept] for line in b.metrics()]
    evaluations = [[{k: v for k, v in line.items() if k not in ("time", "eval_seconds")}
                    for line in runner.read_lines(run.output / "eval.jsonl")] for run in trained]
    assert evaluations[0] == evaluations[1]
    for mine, other in ((a.adapter, b.adapter), (a.merged, b.merged)):
        files, others = tree(mine), tree(other)
        for info in ("sutor_adapter.json", "sutor_export.json"):  # names the command
            files.pop(info, None), others.pop(info, None)
        assert files == others
    assert a.adapter.joinpath("expert_cfg.json").exists() and len(tree(a.merged)) > 4


def test_scores_evaluations_and_texts_equal_those_of_the_directory(program, trained, store,
                                                                   tmp_path):
    scores, found, texts, logits = [], [], [], []
    prompts = runner.write_ids(models.sample_ids(SHAPE, 3, 7), tmp_path / "ids.json")
    for i, (run, model) in enumerate(zip(trained, store())):
        program.run("score", run.recipe, "--set", "esft.score.tokens=-1", "--set",
                    "esft.config=null", "--set", "parallel.ep=2", ranks=2)
        scores.append((run.output / "scores.h5").read_bytes())
        output = program.run("eval", run.recipe, "--json", "--checkpoint", "latest").output
        found.append(json.loads(output[output.index("{"):]))
        out = tmp_path / f"texts-{i}.json"
        program.run("generate", "--model", model, "--ids", prompts, "--out", out,
                    "--set", "generate.max_new_tokens=16")
        texts.append(out.read_bytes())
        program.run("logits", "--model", model, "--ids", prompts, "--dtype", "fp32", "--out",
                    tmp_path / f"logits-{i}.safetensors")
        logits.append((tmp_path / f"logits-{i}.safetensors").read_bytes())
    assert scores[0] == scores[1] and texts[0] == texts[1] and logits[0] == logits[1]
    assert [found[0][w]["sets"] for w in ("base", "trained")] == \
           [found[1][w]["sets"] for w in ("base", "trained")]


def size_text(count):
    """As the program prints a number of bytes."""
    return f"{count / 1024:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def size_count(text):
    """The number of bytes that was printed so."""
    number, unit = text.split()
    return float(number) * {"B": 1, "KiB": 2**10, "MiB": 2**20}[unit]


def test_a_node_reads_each_byte_once(program, trained, store):
    """Bytes that are read, as printed: everything once, about as much by every rank."""
    source, made = store()
    sizes = {name: len(data) for name, (_, _, data) in bytes_of(source).items()}
    whole, largest = sum(sizes.values()), max(sizes.values())
    for run, kind in zip(trained, ("model directory", "base store")):
        for ep in (1, 2, 4):
            output = program.run("score", run.recipe, "--set", "esft.score.tokens=-1", "--set",
                                 "esft.config=null", "--set", f"parallel.ep={ep}", ranks=ep).output
            line = re.search(r"^weights +(.*)$", output, re.M).group(1)
            assert line.endswith(f"from a {kind}"), line
            if ep == 1:
                assert line.startswith(f"{size_text(whole)} of {size_text(whole)} read,"), line
                continue
            assert f" of {size_text(whole)} read by this rank (" in line, line
            assert f" a rank, {size_text(whole)} on the node)" in line, line
            printed = re.search(r"\((\S+ \S+)(?: to (\S+ \S+))? a rank", line).groups()
            least, most = size_count(printed[0]), size_count(printed[1] or printed[0])
            assert most - least <= largest + 2**20 / 10, line


# ---- killed and started again

@pytest.fixture(scope="module")
def large(program, tmp_path_factory):
    """A directory that takes long enough to be killed over, and its store."""
    from safetensors.torch import save_file
    folder = tmp_path_factory.mktemp("large") / "model"
    folder.mkdir()
    weight_map = {}
    for i in range(6):
        file = f"model-{i + 1:05}-of-00006.safetensors"
        tensors = {f"layers.{i}.{j}": torch.full((1024, 1024), i + j / 16) for j in range(8)}
        save_file(tensors, folder / file)
        weight_map |= dict.fromkeys(tensors, file)
    (folder / "config.json").write_text('{"model_type": "large"}')
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    whole = folder.with_name("store")
    convert(program, folder, whole, "--max-file-bytes", "6MiB")
    assert len(list(whole.glob("b*.h5"))) > 20
    return folder, whole


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("files", [0, 2, 9])
def test_killed_conversions_go_on(program, large, tmp_path, ranks, files):
    source, whole = large
    staged = tmp_path / ".staging-store.convert" / "content"
    arguments = ("convert", "--from", source, "--to", tmp_path / "store", "--max-file-bytes",
                 "6MiB")
    process = program.start(*arguments, ranks=ranks)
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        if staged.exists() and len(list(staged.glob("b*.idx"))) >= files:
            break
        time.sleep(0.001)
    runner.stop(process)
    output, _ = process.communicate()
    assert not (tmp_path / "store").exists(), output
    # What is complete is kept: it is the same file afterwards.
    kept = {p.name: p.stat().st_ino for p in staged.glob("b*.h5")
            if p.with_suffix(".idx").exists()}
    assert len(kept) >= files
    output = program.run(*arguments, "--verify", ranks=3 - ranks).output
    if kept:
        assert "going on from an earlier start" in output
    assert tree(tmp_path / "store") == tree(whole)
    assert all((tmp_path / "store" / n).stat().st_ino == inode for n, inode in kept.items())
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_a_killed_way_back_goes_on(program, large, tmp_path):
    source, whole = large
    staged = tmp_path / ".staging-back.convert" / "content"
    process = program.start("convert", "--from", whole, "--to", tmp_path / "back")
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        if staged.exists() and list(staged.glob("*.safetensors")):
            break
        time.sleep(0.001)
    runner.stop(process)
    process.communicate()
    assert not (tmp_path / "back").exists()
    convert(program, whole, tmp_path / "back", "--verify", ranks=2)
    assert tree(tmp_path / "back") == tree(source)


# ---- verify

def verify(program, *paths, code=0):
    return json.loads(program.run("verify", *paths, "--json", code=code).output)


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 16
    path.write_bytes(data)


def test_verify_of_everything_that_is_sound(program, trained, store):
    source, made = store()
    run = trained[1]
    paths = [source, made, run.adapter, run.merged, run.checkpoints()[-1]]
    before = [tree(path) for path in paths]
    found = verify(program, *paths)
    assert [item["kind"] for item in found] == ["model directory", "base store", "adapter",
                                                "model directory", "partial checkpoint"]
    assert all(item["valid"] and item["tensors"] and item["bytes"] for item in found)
    assert found[0]["weights"] == found[1]["weights"] != found[3]["weights"]
    assert found[0]["tensor_digests"] == found[1]["tensor_digests"]
    assert [tree(path) for path in paths] == before  # nothing is changed
    lines = program.run("verify", *paths).output.splitlines()
    assert len(lines) == len(paths) and all(line.startswith("ok ") for line in lines)
    # A run's folder stands for all its checkpoints.
    assert len(verify(program, run.output)) == len(run.checkpoints())


def test_verify_names_a_flipped_bit_in_a_tile_and_nothing_else(program, store, copy_of):
    source, made = store()
    bad = copy_of(made)
    path = sorted(bad.glob("b*.h5"))[1]
    with h5py.File(path, "r") as file:
        name = sorted(file)[0]
        first = min(file[name], key=int)
        offset = file[name][first].id.get_offset()
    flip(path, offset + 3)
    [item] = verify(program, bad, code=3)
    [corruption] = item["damage"]
    assert corruption["file"] == str(path) and corruption["code"] == "E0347"
    assert f"`{name}`" in corruption["part"] and f"byte {offset} of the file" in corruption["part"]
    assert re.fullmatch("crc32c [0-9a-f]{8}", corruption["expected"])
    assert re.fullmatch("[0-9a-f]{8}", corruption["found"])
    assert "sutor convert" in corruption["mend"]
    # A second one elsewhere is a line of its own; the rest is still called by its name.
    flip(sorted(bad.glob("b*.h5"))[-1], 8)
    output = program.run("verify", bad, source, code=3).output
    assert len([l for l in output.splitlines() if l.startswith("  E0347")]) == 2
    assert "\nok model directory" in output


def test_verify_names_truncated_missing_and_strange_files(program, store, copy_of):
    bad = copy_of(store()[1])
    names = sorted(p.name for p in bad.glob("b*.h5"))
    with (bad / names[0]).open("r+b") as file:
        file.truncate(1000)
    (bad / names[1]).unlink()
    (bad / "files" / "generation_config.json").unlink()
    (bad / "notes.txt").write_text("mine")
    [item] = verify(program, bad, code=3)
    found = {each["file"]: (each["expected"], each["found"]) for each in item["damage"]}
    assert found.keys() == {str(bad / n) for n in (names[0], names[1], "notes.txt",
                                                   "files/generation_config.json")}
    assert found[str(bad / names[0])][1] == "1000 bytes"
    assert found[str(bad / names[1])][1] == "nothing"
    flip(bad / "MANIFEST.json", 200)
    [item] = verify(program, bad, code=3)
    assert item["damage"][0]["code"] == "E0342"


def test_verify_of_corrupt_directories(program, store, copy_of, model_dir):
    bad = copy_of(store()[0])
    shards = sorted(bad.glob("*.safetensors"))
    with shards[0].open("r+b") as file:
        file.truncate(shards[0].stat().st_size - 1)
    shards[1].unlink()
    [item] = verify(program, bad, code=3)
    assert [each["file"] for each in item["damage"]] == [str(p) for p in shards[:2]]
    shutil.rmtree(bad)
    # Another model's config.json: the shapes do not fit.
    bad = copy_of(store()[0])
    shutil.copy(model_dir(models.shape("ds-odd")) / "config.json", bad)
    assert "E0302" in program.run("verify", bad, code=3).output


def test_verify_of_corrupt_checkpoints_and_adapters(program, trained, copy_of):
    run = trained[0]
    bad = copy_of(run.checkpoints()[-1])
    bad = bad.rename(bad.with_name("step-00000003"))
    path = sorted(bad.glob("w*.h5"))[0]
    with h5py.File(path, "r") as file:
        tensor = sorted(file)[0]
        offset = file[tensor]["exp_avg"]["0"].id.get_offset()
    flip(path, offset)
    [item] = verify(program, bad, code=3)
    [corruption] = item["damage"]
    assert corruption["file"] == str(path) and corruption["part"] == f"tile /{tensor}/exp_avg/0"
    assert corruption["expected"].startswith("xxh3:") and corruption["found"].startswith("xxh3:")
    (bad / "state.h5").unlink()
    [item] = verify(program, bad, code=3)
    assert item["damage"][0]["file"] == str(bad / "state.h5")

    for folder, info in ((run.adapter, "sutor_adapter.json"), (run.merged, "sutor_export.json")):
        bad = copy_of(folder).rename(bad.with_name(f"bad-{info}"))
        name = sorted(json.loads((bad / info).read_text())["tensors"])[0]
        for file in bad.glob("*.safetensors"):
            data = file.read_bytes()
            start = 8 + struct.unpack("<Q", data[:8])[0]
            header = json.loads(data[8:start])
            if name in header:
                flip(file, start + header[name]["data_offsets"][0])
        [item] = verify(program, bad, code=3)
        [corruption] = item["damage"]
        assert f"`{name}`" in corruption["part"] and info in corruption["expected"]


def test_verify_of_what_it_does_not_know(program, tmp_path):
    assert "E0301" in program.run("verify", tmp_path / "nothing", code=3).output
    assert "E0352" in program.run("verify", tmp_path, code=3).output


# ---- diff

def diff(program, a, b, *arguments, code=1):
    return json.loads(program.run("diff", a, b, "--json", *arguments, code=code).output)


def test_equal_stores_are_told_without_reading_weights(program, store, tmp_path):
    source, made = store()
    convert(program, source, tmp_path / "one-file")
    found = diff(program, made, tmp_path / "one-file", code=0)
    assert found["equal"] and found["a"]["read_bytes"] == found["b"]["read_bytes"] == 0
    found = diff(program, made, source, code=0)
    assert found["a"]["read_bytes"] == 0
    assert found["b"]["read_bytes"] == sum(len(d) for _, _, d in bytes_of(source).values())
    assert found["other_content_compared"] and not found["other_content"]


def test_how_a_model_is_dealt_out_makes_no_difference(program, store, model_dir):
    """One file or many, experts stacked or not: the same tensors."""
    source, made = store()
    assert diff(program, model_dir(SHAPE), source, code=0)["equal_tensors"] == len(bytes_of(source))
    found = diff(program, model_dir(SHAPE, fused=True), made, code=0)
    assert found["equal_tensors"] == len(bytes_of(source))


def test_what_a_training_changed(program, trained, store):
    source, made = store()
    run = trained[0]
    config = json.loads((run.folder / "expert_config.json").read_text())["experts"]
    experts = {layer: sorted(ids) for layer, ids in config.items()}
    before, after = runner.read_tensors(source), runner.read_tensors(run.merged)
    changed = sorted(runner.read_tensors(run.adapter))
    for base in (source, made):
        found = diff(program, base, run.merged, "--tensors")
        assert {k: sorted(v) for k, v in found["experts"].items()} == experts
        assert [t["name"] for t in found["tensors"]] == changed
        assert found["other_content"] == {"sutor_export.json": "only in B"}
        for tensor in found["tensors"]:
            a, b = before[tensor["name"]].double(), after[tensor["name"]].double()
            assert tensor["max_abs"] == pytest.approx(float((b - a).abs().max()), rel=1e-12)
            assert tensor["relative"] == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-9)
    output = program.run("diff", source, run.merged, code=1).output
    for layer, ids in experts.items():
        assert re.search(rf"layer {layer}: experts {ids[0]}\b", output)


def test_adapters_and_checkpoints_against_models(program, trained, store):
    run, other = trained
    checkpoint = run.checkpoints()[-1]
    trained_names = sorted(runner.read_tensors(run.adapter))
    # What is exported is what the checkpoint holds; the rest is on one side only.
    for model in (run.adapter, run.merged):
        found = diff(program, model, checkpoint)
        assert found["equal_tensors"] == len(trained_names)
        assert {t["change"] for t in found["tensors"]} <= {"only in A", "only in B"}
        assert not found["other_content_compared"]
    found = diff(program, store(fused=True)[0], run.adapter)
    assert [t["name"] for t in found["tensors"] if t["change"] == "values"] == trained_names
    # From the directory or from its store: the same training.
    assert diff(program, run.adapter, other.adapter, code=0)["equal"]
    assert diff(program, checkpoint, other.checkpoints()[-1], code=0)["equal"]


def test_masters_count_as_rounded(program, model_dir, tmp_path):
    """A checkpoint beside the bf16 model that was exported from it."""
    model = model_dir(SHAPE, dtype="bf16")
    rows = runner.write_rows(models.sample_ids(SHAPE), tmp_path / "rows.jsonl")
    config = models.pick_experts(models.build(SHAPE))
    run = runner.Run(program, tmp_path, model, rows, config, steps=2, optim={"lr": 1e-2})
    run.prepare().train()
    adapter, merged = run.export()
    found = diff(program, run.checkpoints()[-1], merged, "--tensors")
    assert found["equal_tensors"] == len(runner.read_tensors(adapter))
    assert not [t for t in found["tensors"] if t["change"] in ("values", "dtype")]


def test_other_dtypes_shapes_and_files(program, store, copy_of, model_dir):
    source, made = store()
    other = copy_of(source)
    (other / "config.json").write_text((source / "config.json").read_text() + "\n")
    (other / "README.md").write_text("new")
    assert diff(program, made, other)["other_content"] == {"config.json": "differs",
                                                           "README.md": "only in B"}
    found = diff(program, source, model_dir(SHAPE, dtype="bf16"), "--tensors")
    assert found["equal_tensors"] == 0
    assert {t["change"] for t in found["tensors"]} == {"dtype"}
    assert all(t["a"].startswith("F32 [") and t["b"].startswith("BF16 [") and
               0 <= t["relative"] < 0.01 for t in found["tensors"])
    odd = diff(program, source, model_dir(models.shape("ds-odd")))
    assert {"shape", "only in A", "only in B"} <= {t["change"] for t in odd["tensors"]}


def test_diff_refuses_what_it_cannot_compare(program, store, tmp_path, copy_of):
    source, made = store()
    assert "E0301" in program.run("diff", source, tmp_path / "nothing", code=3).output
    assert "E0352" in program.run("diff", tmp_path, source, code=3).output
    assert "E0202" in program.run("diff", source, code=2).output
    bad = copy_of(made)
    name = next(iter(h5py.File(sorted(bad.glob("b*.h5"))[0], "r")))
    with h5py.File(sorted(bad.glob("b*.h5"))[0], "r") as file:
        offset = file[name][min(file[name], key=int)].id.get_offset()
    flip(sorted(bad.glob("b*.h5"))[0], offset)
    # Digests of a store are believed (verify checks them); bytes that are read are checked.
    assert diff(program, bad, source, code=0)["equal"]
    config = json.loads((source / "config.json").read_text())
    assert config["model_type"] == "deepseek_v2"
