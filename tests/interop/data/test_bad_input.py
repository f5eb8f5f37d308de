"""Bad input ends every rank soon, with the exit code of its kind and a message that helps."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

import models
import runner

SHAPE = models.shape("ds-lite")  # dense layer 0, MoE layers 1 and 2, 16 experts
SOON = 20  # seconds that a run with bad input may take, on any number of ranks

pytestmark = pytest.mark.parametrize("ranks", [1, 2])


@pytest.fixture
def make(program, tmp_path):
    """make(model, config, **sections) -> a run; its rows are sample rows unless given."""
    def make(model, config=None, rows=None, **sections):
        if rows is None:
            rows = runner.write_rows(models.sample_ids(SHAPE), tmp_path / "rows.jsonl")
        return runner.Run(program, tmp_path, model, rows, config, steps=1, **sections)
    return make


@pytest.fixture(scope="module")
def good_config():
    return models.pick_experts(models.build(SHAPE))


def refuse(run, code, *words, ranks=1, prepare=True, arguments=()):
    """The training must end with `code`; its message holds all of `words`."""
    if prepare:
        run.prepare()
    result = run.train(*arguments, ranks=ranks, code=None, timeout=SOON)
    # Launchers may OR or drop codes of several ranks; one process gives exactly its code.
    assert result.code == code if ranks == 1 else result.code != 0, str(result)
    assert f"error[E{code:02}" in result.output, str(result)
    for word in words:
        assert word in result.output, f"{word!r} is not in the message\n{result}"
    assert "Assertion" not in result.output and "terminate called" not in result.output
    assert not run.checkpoints()
    return result


def edit_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


NAME = "model.layers.2.mlp.experts.7.up_proj.weight"


def test_unknown_recipe_key(make, model_dir, good_config, ranks):
    run = make(model_dir(SHAPE), good_config).prepare()
    text = run.recipe.read_text().replace("micro_batch", "micro_bach")
    run.recipe.write_text(text)
    line = next(i for i, l in enumerate(text.splitlines(), 1) if "micro_bach" in l)
    result = refuse(run, 2, "micro_bach", "micro_batch", ranks=ranks, prepare=False)
    assert f"recipe.yaml:{line}:" in result.output, str(result)


def test_wrong_type_in_the_recipe(make, model_dir, good_config, ranks):
    run = make(model_dir(SHAPE), good_config).prepare()
    refuse(run, 2, "lr", ranks=ranks, prepare=False, arguments=["--set", "optim.lr=fast"])


def test_unknown_key_given_by_set(make, model_dir, good_config, ranks):
    run = make(model_dir(SHAPE), good_config).prepare()
    refuse(run, 2, "topp", "top_p", ranks=ranks, prepare=False,
           arguments=["--set", "esft.select.topp=0.2"])


def test_missing_tensor(make, model_dir, copy_of, good_config, ranks):
    model = copy_of(model_dir(SHAPE))
    edit_tensors(model, lambda t: t.pop(NAME))
    refuse(make(model, good_config), 3, NAME, ranks=ranks)


def test_wrong_shape(make, model_dir, copy_of, good_config, ranks):
    model = copy_of(model_dir(SHAPE))
    edit_tensors(model, lambda t: t.update({NAME: torch.zeros(31, 64)}))
    refuse(make(model, good_config), 3, NAME, "31", "32", "64", ranks=ranks)


@pytest.mark.parametrize("keep", [0, 7, 100, -1, -5000])
def test_truncated_safetensors(make, model_dir, copy_of, good_config, ranks, keep):
    model = copy_of(model_dir(SHAPE))
    path = model / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:keep] if keep else b"")
    refuse(make(model, good_config), 3, "model.safetensors", ranks=ranks)


def test_absurd_header_of_safetensors(make, model_dir, copy_of, good_config, ranks):
    model = copy_of(model_dir(SHAPE))
    path = model / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])
    refuse(make(model, good_config), 3, "model.safetensors", ranks=ranks)


def test_missing_shard(make, model_dir, copy_of, good_config, ranks):
    model = copy_of(model_dir(SHAPE, max_shard_size=300_000))
    shard = sorted(model.glob("*.safetensors"))[1]
    shard.unlink()
    refuse(make(model, good_config), 3, shard.name, ranks=ranks)


def test_no_configuration(make, model_dir, copy_of, good_config, ranks):
    run = make(model_dir(SHAPE), good_config).prepare()
    model = copy_of(model_dir(SHAPE))
    (model / "config.json").unlink()
    refuse(run, 3, "config.json", ranks=ranks, prepare=False,
           arguments=["--set", f"model.path={model}"])


def test_unknown_family(make, model_dir, copy_of, good_config, ranks):
    run = make(model_dir(SHAPE), good_config).prepare()
    model = copy_of(model_dir(SHAPE))
    config = json.loads((model / "config.json").read_text())
    models.write_json(config | {"model_type": "gpt2"}, model / "config.json")
    refuse(run, 3, "gpt2", "deepseek_v2", "qwen3_moe", ranks=ranks, prepare=False,
           arguments=["--set", f"model.path={model}"])


def test_ep_that_does_not_divide(make, model_dir, good_config, ranks):
    run = make(model_dir(SHAPE), good_config).prepare()
    refuse(run, 2, "3", ranks=ranks, prepare=False, arguments=["--set", "parallel.ep=3"])


@pytest.mark.parametrize("experts,words", [
    ({"1": [16]}, ["16"]), ({"1": [-1]}, ["-1"]), ({"3": [0]}, ["3"]), ({"0": [0]}, ["0"]),
    ({"1": [2, 2]}, ["2"]), ({"one": [0]}, ["one"]), ({"1": [0.5]}, ["0.5"]),
], ids=["expert", "negative", "layer", "dense layer", "twice", "no number", "fraction"])
def test_config_that_does_not_fit(make, model_dir, good_config, ranks, experts, words):
    refuse(make(model_dir(SHAPE), good_config | {"experts": experts}), 3, *words, ranks=ranks)


def test_config_of_another_model(make, model_dir, ranks):
    """Thirty-two experts in layers 1 to 27, as a larger model has."""
    experts = {str(layer): [layer, 31] for layer in range(1, 28)}
    config = {"experts": experts, "shared_experts": False, "non_expert_modules": False}
    refuse(make(model_dir(SHAPE), config), 3, "expert_config.json", ranks=ranks)


@pytest.mark.parametrize("keys,named", [(["1", "2", "3"], True), (["0", "1", "2"], False)],
                         ids=["from 1", "from 0"])
def test_config_whose_layers_count_from_one(make, model_dir, ranks, keys, named):
    """Refused with the fix named, never guessed; a config that counts from 0 is taken."""
    run = make(model_dir(models.shape("qw-gqa")),
               {"experts": {k: [1] for k in keys}, "shared_experts": False,
                "non_expert_modules": False})
    if named:
        refuse(run, 3, "layer_base", ranks=ranks)
    else:
        run.prepare().train(ranks=ranks)


@pytest.mark.parametrize("experts", [{}, {"1": [], "2": []}], ids=["no layer", "empty layers"])
def test_empty_selection(make, model_dir, good_config, ranks, experts):
    refuse(make(model_dir(SHAPE), good_config | {"experts": experts}), 3, ranks=ranks)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"experts": 3}'])
def test_config_that_is_none(make, model_dir, good_config, ranks, text):
    run = make(model_dir(SHAPE), good_config).prepare()
    (run.folder / "expert_config.json").write_text(text)
    refuse(run, 3, "expert_config.json", ranks=ranks, prepare=False)


def test_no_supervised_token(program, make, model_dir, tmp_path, good_config, ranks):
    ids = models.sample_ids(SHAPE)
    rows = runner.write_rows(ids, tmp_path / "none.jsonl", torch.full_like(ids, -100))
    run = make(model_dir(SHAPE), good_config, rows=rows)
    result = program.run("prepare", run.recipe, code=None)
    if result.code == 0:  # preparing may leave it to training to refuse
        result = refuse(run, 3, ranks=ranks, prepare=False)
    assert result.code == 3 or ranks > 1, str(result)
    assert "loss" in result.output or "supervised" in result.output, str(result)


def test_token_beyond_the_vocabulary(program, make, model_dir, tmp_path, good_config, ranks):
    ids = models.sample_ids(SHAPE)
    ids[2, 5] = SHAPE.values["vocab_size"]
    rows = runner.write_rows(ids, tmp_path / "beyond.jsonl")
    run = make(model_dir(SHAPE), good_config, rows=rows)
    result = program.run("prepare", run.recipe)
    assert "W0110" in result.output and "beyond.jsonl:3: error[E0330]" in result.output, str(result)
    result = program.run("prepare", run.recipe, "--strict", code=3)
    assert "beyond.jsonl:3: error[E0330]: token id 160" in result.output, str(result)


@pytest.mark.parametrize("corruption", ["missing", "truncated", "flipped"])
def test_corrupt_token_store(make, model_dir, good_config, ranks, corruption):
    run = make(model_dir(SHAPE), good_config).prepare()
    path = run.output / "tokens" / "rows.tokens.h5"
    data = bytearray(path.read_bytes())
    words = ["rows.tokens.h5"]
    if corruption == "missing":
        path.unlink()
        words.append("prepare")
    elif corruption == "truncated":
        path.write_bytes(data[:len(data) // 2])
    else:
        ids = struct.pack("<4i", *models.sample_ids(SHAPE)[0, :4].tolist())
        data[data.index(ids)] ^= 1
        path.write_bytes(data)
    refuse(run, 3, *words, ranks=ranks, prepare=False)


def test_base_that_is_not_the_checkpoints(make, model_dir, copy_of, good_config, ranks):
    run = make(model_dir(SHAPE), good_config, schedule={"epochs": 2},
               checkpoint={"every": 1}).prepare()
    run.train()
    last = run.checkpoints()[-1]
    runner.shutil.rmtree(last)
    model = copy_of(model_dir(SHAPE))
    edit_tensors(model, lambda t: t[NAME].add_(1e-3))
    result = run.train("--resume", "--set", f"model.path={model}", ranks=ranks, code=None,
                       timeout=SOON)
    assert result.code == 3 if ranks == 1 else result.code != 0, str(result)
    assert "error[E03" in result.output and "xxh3" in result.output, str(result)


def test_resume_with_another_selection(make, model_dir, good_config, ranks):
    run = make(model_dir(SHAPE), good_config, schedule={"epochs": 2},
               checkpoint={"every": 1}).prepare()
    run.train()
    runner.shutil.rmtree(run.checkpoints()[-1])
    models.write_json(good_config | {"experts": {"1": [0]}}, run.folder / "expert_config.json")
    result = run.train("--resume", ranks=ranks, code=None, timeout=SOON)
    assert result.code == 3 if ranks == 1 else result.code != 0, str(result)
    assert "error[E03" in result.output, str(result)


@pytest.mark.parametrize("corruption", ["cut", "flip", "manifest"])
def test_corrupt_checkpoint(make, model_dir, good_config, ranks, corruption):
    run = make(model_dir(SHAPE), good_config).prepare()
    run.train()
    checkpoint = run.checkpoints()[-1]
    path = max(checkpoint.iterdir(), key=lambda p: p.stat().st_size)
    if corruption == "manifest":
        path = checkpoint / "MANIFEST.json"
    data = bytearray(path.read_bytes())
    if corruption == "cut":
        data = data[:-1]
    else:
        data[len(data) // 2] ^= 4
    path.write_bytes(data)
    result = run.train("--resume=strict", ranks=ranks, code=None, timeout=SOON)
    assert result.code == 3 if ranks == 1 else result.code != 0, str(result)
    assert checkpoint.name in result.output, str(result)


def test_output_with_another_training(make, model_dir, good_config, ranks):
    run = make(model_dir(SHAPE), good_config).prepare()
    run.train()
    before = {p: p.read_bytes() for p in run.output.rglob("*") if p.is_file()}
    result = run.train(ranks=ranks, code=None, timeout=SOON)
    assert result.code == 2 if ranks == 1 else result.code != 0, str(result)
    for word in ("error[E02", str(run.output), "--resume", "--overwrite"):
        assert word in result.output, str(result)
    assert all(p.read_bytes() == data for p, data in before.items())


def test_resume_without_a_training_begins_and_says_so(make, model_dir, good_config, ranks):
    """A job that is put into the queue again always says --resume."""
    run = make(model_dir(SHAPE), good_config).prepare()
    result = run.train("--resume", ranks=ranks, code=None, timeout=SOON)
    assert result.code == 0, str(result)
    assert "holds no checkpoint: starting from the beginning" in result.output, str(result)


def test_unknown_verb_and_option(program, ranks):
    for arguments in (["trian"], ["train", "--resum"], ["train"], []):
        result = program.run(*arguments, ranks=ranks, code=None, timeout=SOON)
        assert result.code == 2 if ranks == 1 else result.code != 0, str(result)
