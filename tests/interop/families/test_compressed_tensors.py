"""What compressed-tensors stores: FP8 with scales for a tensor, channels or blocks, MXFP8, integers
with zero points and columns in any order. Read to the bits that the library takes them apart to,
trained beside, and quantised again as the library would."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

import compressed
import logits
import models
import runner
from artifacts import convert, directory_of, tree
from compressed import EXPERT, FORMS, LINEAR

SHAPE, ODD = models.shape("qw-gqa"), models.shape("qw-odd-bias-tied")
ATTENTION = re.compile(r".*\.self_attn\..*_proj\.weight")
MIXED = {EXPERT: FORMS["w4-zero-points"], ATTENTION: FORMS["fp8-channel"]}
# The bits of all forms are compared in tests/unit/checkpoint/export/compressed_tensors_test.cc.
COMPUTED = ["fp8-tensor", "fp8-channel", "fp8-block", "mxfp8", "int8-zero-points", "w4-group",
            "w4-zero-points", "w4-order", "w4-order-zero-points", "mixed"]


@pytest.fixture(scope="module")
def pair(model_dir, tmp_path_factory):
    """pair(form, shape) -> (directory in that form, the same model plainly in fp32)."""
    base, made = tmp_path_factory.mktemp("compressed"), {}

    def both(form, shape=SHAPE):
        if (form, shape.name) not in made:
            source = model_dir(shape, dtype="bf16")
            config = json.loads((source / "config.json").read_text())
            forms = MIXED if form == "mixed" else {LINEAR: FORMS[form]}
            stored, meant, quantization = compressed.compress_model(
                load_file(source / "model.safetensors"), forms)
            plain = {n: t.float() for n, t in meant.items()}
            name = f"{form}-{shape.name}"
            made[form, shape.name] = (
                directory_of(base / name, config | {"quantization_config": quantization}, stored),
                directory_of(base / f"{name}-plain", config, plain))
        return made[form, shape.name]

    return both


def same_logits(program, directories, shape, folder, dtype="fp32"):
    ids, found = models.sample_ids(shape), []
    for i, directory in enumerate(directories):
        (folder / str(i)).mkdir()
        found.append(logits.run_logits(program, directory, ids, folder / str(i), dtype=dtype))
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])
    return ids, found[0]


@pytest.mark.parametrize("form", COMPUTED)
def test_same_bits_as_what_the_library_takes_apart(program, pair, tmp_path, form):
    same_logits(program, pair(form), SHAPE, tmp_path)


@pytest.mark.parametrize("form", ["fp8-block", "int8-zero-points", "w4-channel-zero-points"])
def test_rows_and_columns_that_fill_no_word_and_no_block(program, pair, tmp_path, form):
    same_logits(program, pair(form, ODD), ODD, tmp_path)


@pytest.mark.parametrize("form", ["fp8-tensor", "fp8-channel", "w4-group"])
def test_transformers_takes_the_folder_apart_to_the_same_weights(program, pair, tmp_path, form):
    """In bf16: for fp32 it turns the scales into fp32 first, and then no product is rounded. It
    cannot load the other forms as experts."""
    import transformers
    how = transformers.CompressedTensorsConfig(dequantize=True)
    theirs, plain = (transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, **more).state_dict()
        for folder, more in zip(pair(form), ({"quantization_config": how}, {})))
    assert theirs.keys() == plain.keys()
    assert all(torch.equal(theirs[n], plain[n]) for n in theirs)
    same_logits(program, pair(form), SHAPE, tmp_path, dtype="bf16")


def test_there_and_back_and_what_inspect_says(program, pair, tmp_path):
    source, _ = pair("w4-order-zero-points")
    convert(program, source, tmp_path / "store")
    convert(program, tmp_path / "store", tmp_path / "back")
    assert tree(source) == tree(tmp_path / "back")
    report = json.loads(program.run("inspect", tmp_path / "store", "--json").output)
    assert report["weights"] == "complete" and report["unexpected_tensors"] == []


LAYOUTS = [(1, {}), (4, {"tp": 2, "ep": 2}), (2, {"etp": 2})]


@pytest.fixture(scope="module")
def trained(program, pair, tmp_path_factory):
    """trained(form, layout) -> runs on the quantised directory and on the plain one."""
    base, made = tmp_path_factory.mktemp("trained"), {}

    def both(form, layout=0):
        if (form, layout) in made:
            return made[form, layout]
        ranks, parallel = LAYOUTS[layout]
        rows = runner.write_rows(models.sample_ids(SHAPE), base / "rows.jsonl")
        config = models.pick_experts(models.build(SHAPE), layers=[1])
        runs = []
        for kind, directory in zip(("quantised", "plain"), pair(form)):
            folder = base / f"{form}-{layout}-{kind}"
            run = runner.Run(program, folder, directory, rows, config, steps=2).prepare()
            program.run("train", run.recipe, *runner.layout_settings(parallel), ranks=ranks)
            runs.append(run)
        made[form, layout] = runs
        return runs

    return both


@pytest.mark.parametrize("layout", [1, 2], ids=["tp-ep", "etp"])
@pytest.mark.parametrize("form", ["fp8-block", "w4-order-zero-points"])
def test_slices_train_as_the_dequantised_model(trained, form, layout):
    """Rows and columns of matrices, with their own scales, zero points and groups."""
    quantised, plain = trained(form, layout)
    assert quantised.losses() == plain.losses()


def masters(run):
    """What was trained, before any rounding: the plain base is fp32, so is its adapter."""
    if not (run.output / "export").exists():
        run.export()
    return runner.read_tensors(run.output / "export" / "adapter")


REQUANTISED = ["fp8-channel", "w4-order-zero-points"]


@pytest.mark.parametrize("form", REQUANTISED)
def test_requantised_as_the_library_would(program, trained, pair, form):
    """Its extremes, its scales, its codes; everything else is the base's, byte for byte."""
    quantised, plain = trained(form)
    values = masters(plain)
    quantised.export("--quantized", "requantize", "--out", quantised.folder / "again")
    merged, directory = quantised.folder / "again" / "merged", pair(form)[0]
    before, after = runner.read_tensors(directory), runner.read_tensors(merged)
    expected = {}
    for name, value in values.items():
        expected |= compressed.put(name, compressed.quantise(value, FORMS[form])[0])
    assert expected.keys() <= before.keys() == after.keys()
    changed = 0
    for name, tensor in after.items():
        wanted = expected.get(name, before[name])
        assert torch.equal(tensor.view(torch.uint8), wanted.view(torch.uint8)), name
        changed += not torch.equal(tensor.view(torch.uint8), before[name].view(torch.uint8))
    assert changed >= len(values)
    assert (merged / "config.json").read_bytes() == (directory / "config.json").read_bytes()
    program.run("verify", merged)


@pytest.mark.parametrize("form", ["fp8-channel", "w4-order-zero-points"])
def test_dequantised_layers_are_on_the_list_of_what_is_ignored(program, trained, pair, tmp_path,
                                                              form):
    """No part of the old form is left beside them, and the list is read as the library reads it."""
    from compressed_tensors.utils import match_name
    quantised, plain = trained(form)
    values, plainly = masters(plain), runner.read_tensors(pair(form)[1])
    quantised.export("--quantized", "dequantize", "--out", quantised.folder / "plain")
    merged = quantised.folder / "plain" / "merged"
    after = runner.read_tensors(merged)
    layer = [n for n in plainly if ".layers.1.mlp.experts." in n]
    for name in layer:
        wanted = values.get(name, plainly[name]).to(torch.bfloat16)
        assert torch.equal(after[name], wanted), name
        module = name.removesuffix("weight")
        assert [n for n in after if n.startswith(module)] == [name]
    config = json.loads((merged / "config.json").read_text())
    ignored = config["quantization_config"]["ignore"]
    for name in plainly:
        if LINEAR.fullmatch(name):
            module = name.removesuffix(".weight")
            assert any(match_name(module, i) for i in ignored) == (name in layer), name
    config.pop("quantization_config")
    whole = {n: after[n] if n in layer else t for n, t in plainly.items()}
    reference = directory_of(tmp_path / "reference", config, whole)
    same_logits(program, (merged, reference), SHAPE, tmp_path)
