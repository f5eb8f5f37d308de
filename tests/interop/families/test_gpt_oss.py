"""GPT-OSS with its experts in MXFP4 beside the same values in BF16."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import FP4_VALUES, convert_moe_packed_tensors

import logits
import models
import reference
import runner
from artifacts import convert, directory_of, tree

SHAPE = models.shape("go-20b")
GROUP = 32
CONFIG = {"quant_method": "mxfp4", "modules_to_not_convert": [
    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}


def pack(stack):
    """[E, in, out] -> blocks [E, out, in / 32, 16] and scales [E, out, in / 32]."""
    rows = stack.float().transpose(1, 2)
    groups = rows.reshape(*rows.shape[:2], -1, GROUP)
    exponents = groups.abs().amax(-1).log2().floor() - 2
    values = groups / exponents.exp2().unsqueeze(-1)
    nibbles = (values.unsqueeze(-1) - torch.tensor(FP4_VALUES)).abs().argmin(-1).to(torch.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4), (exponents + 127).to(torch.uint8)


def to_mxfp4(tensors):
    """(stored tensors, the same in BF16 as transformers takes them apart)"""
    stored, meant = {}, {}
    for name, tensor in tensors.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            stored[name] = meant[name] = tensor
            continue
        blocks, scales = pack(tensor)
        stored[name + "_blocks"], stored[name + "_scales"] = blocks, scales
        meant[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
    return stored, meant


@pytest.fixture(scope="module")
def forms(model_dir, tmp_path_factory):
    """(directory in MXFP4, the same model in BF16)"""
    source = model_dir(SHAPE, dtype="bf16")
    config = json.loads((source / "config.json").read_text())
    stored, meant = to_mxfp4(load_file(source / "model.safetensors"))
    folder = tmp_path_factory.mktemp("forms")
    return (directory_of(folder / "mxfp4", config | {"quantization_config": CONFIG}, stored),
            directory_of(folder / "bf16", config, meant))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_logits_are_those_of_the_bf16_form_and_of_transformers(program, forms, tmp_path, dtype):
    ids, results = models.sample_ids(SHAPE), []
    for directory in forms:
        folder = tmp_path / directory.name
        folder.mkdir()
        results.append(logits.run_logits(program, directory, ids, folder, dtype=dtype))
    assert all(torch.equal(results[0][n], results[1][n]) for n in results[0])
    if dtype == "fp32":
        for directory in forms:  # transformers dequantises what it loads on a CPU
            logits.check_forward(models.load(directory, torch.float32), ids, results[0])


def test_there_and_back(program, forms, tmp_path):
    for source in forms:
        store, back = tmp_path / f"{source.name}-store", tmp_path / source.name
        convert(program, source, store)
        convert(program, store, back)
        assert tree(source) == tree(back)
        report = json.loads(program.run("inspect", back, "--json").output)
        assert report["weights"] == "complete" and report["unexpected_tensors"] == []


@pytest.mark.parametrize("layout", [(1, {}), (4, {"tp": 2, "ep": 2}), (2, {"etp": 2})], ids=str)
def test_training_beside_them(program, forms, tmp_path, layout):
    """From either directory and from a base store of each: the same losses and trained weights."""
    ranks, parallel = layout
    ids = models.sample_ids(SHAPE)
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    config = models.pick_experts(models.build(SHAPE))
    sources = list(forms)
    for source in forms:
        sources.append(tmp_path / f"{source.name}-store")
        convert(program, source, sources[-1])
    settings = [part for key, value in parallel.items()
                for part in ("--set", f"parallel.{key}={value}")]
    runs = []
    for i, source in enumerate(sources):
        run = runner.Run(program, tmp_path / str(i), source, rows, config, steps=2).prepare()
        program.run("train", run.recipe, *settings, ranks=ranks)
        program.run("export", run.recipe, "--checkpoint", run.checkpoints()[-1], "--format",
                    "adapter")
        runs.append(run)
    trained = [runner.read_tensors(run.output / "export" / "adapter") for run in runs]
    assert all(run.losses() == runs[0].losses() for run in runs)
    assert trained[0].keys() == set(reference.trained_names(models.build(SHAPE), config))
    assert all(torch.equal(each[n], trained[0][n]) for each in trained for n in trained[0])


def test_low_rank_pairs_beside_them(program, forms, tmp_path):
    ids = models.sample_ids(SHAPE)
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    config = models.pick_experts(models.build(SHAPE))
    losses = []
    for source in forms:
        run = runner.Run(program, tmp_path / source.name, source, rows, config, steps=3,
                         train={"method": "lora"}, optim={"lr": 1e-2})
        run.set_section("lora", {"rank": 4, "alpha": 8, "targets": ["attention", "experts"]})
        losses.append(run.prepare().train_it().losses())
    assert losses[0] == losses[1] and losses[0][2] < losses[0][0]


def test_a_wrong_block_is_refused(program, forms, copy_of, tmp_path):
    corrupted = copy_of(forms[0])
    path = corrupted / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.experts.down_proj"
    scales = tensors.pop(name + "_scales")
    ids = runner.write_ids(models.sample_ids(SHAPE), tmp_path / "ids.json")
    for bad in (None, scales[:, :-1].contiguous()):
        if bad is not None:
            tensors[name + "_scales"] = bad
        save_file(tensors, path, metadata={"format": "pt"})
        result = program.run("logits", "--model", corrupted, "--ids", ids, "--out",
                             tmp_path / "out.safetensors", code=None)
        assert result.code != 0 and name in result.output
        assert "E0307" in result.output or "E0302" in result.output


# ---- merged exports

@pytest.fixture(scope="module")
def trained(program, forms, tmp_path_factory):
    """From MXFP4, experts of the layers 0 and 2: (run, its adapter's tensors, the config)."""
    folder = tmp_path_factory.mktemp("trained")
    rows = runner.write_rows(models.sample_ids(SHAPE), folder / "rows.jsonl")
    config = models.pick_experts(models.build(SHAPE), layers=[0, 2])
    run = runner.Run(program, folder, forms[0], rows, config, steps=2, optim={"lr": 1e-2})
    run.prepare().train()
    program.run("export", run.recipe, "--checkpoint", run.checkpoints()[-1], "--format", "adapter")
    return run, runner.read_tensors(run.output / "export" / "adapter"), config


def merged_by(program, trained, folder, rule):
    run, _, _ = trained
    result = program.run("export", run.recipe, "--checkpoint", run.checkpoints()[-1], "--format",
                         "merged", "--quantized", rule, "--verify", "--out", folder)
    return folder / "merged", result.output


def expert_values(stacks, name):
    """An expert's tensor by sutor's name, from stacks as transformers has them."""
    prefix, _, rest = name.partition(".experts.")
    expert, projection, kind = rest.split(".")
    stack = "down_proj" if projection == "down_proj" else "gate_up_proj"
    value = stacks[f"{prefix}.experts.{stack}" + ("_bias" if kind == "bias" else "")][int(expert)]
    if projection != "down_proj":
        value = value[..., (0 if projection == "gate_proj" else 1)::2]
    return value.T if kind == "weight" else value


def check_loads(program, merged, tmp_path):
    ids = models.sample_ids(SHAPE)
    loaded = models.load(merged, torch.float32)
    logits.check_forward(loaded, ids, logits.run_logits(program, merged, ids, tmp_path))


def test_merged_export_with_trained_layers_dequantised(program, forms, trained, tmp_path):
    merged, _ = merged_by(program, trained, tmp_path, "dequantize")
    _, adapter, config = trained
    found, base = runner.read_tensors(merged), runner.read_tensors(forms[0])
    meant = runner.read_tensors(forms[1])
    stacks = ["gate_up_proj", "down_proj"]
    for layer in range(3):
        prefix = f"model.layers.{layer}.mlp.experts."
        if str(layer) not in config["experts"]:
            assert all(torch.equal(found[prefix + s + p], base[prefix + s + p])
                       for s in stacks for p in ("_blocks", "_scales"))
            continue
        for stack in stacks:
            value = found[prefix + stack]
            assert value.dtype == torch.bfloat16 and value.is_contiguous()
            assert prefix + stack + "_blocks" not in found
            others = [e for e in range(16) if e not in config["experts"][str(layer)]]
            assert torch.equal(value[others], meant[prefix + stack][others])
    for name, value in adapter.items():
        assert torch.equal(expert_values(found, name), value), name
    check_loads(program, merged, tmp_path)


def test_merged_export_quantised_again(program, forms, trained, tmp_path):
    merged, output = merged_by(program, trained, tmp_path, "requantize")
    _, adapter, config = trained
    found, base = runner.read_tensors(merged), runner.read_tensors(forms[0])
    assert found.keys() == base.keys()
    stacks, before = dict(found), dict(base)
    for tensors in (stacks, before):
        for name in [n for n in tensors if n.endswith("_blocks")]:
            scales = tensors.pop(name.replace("_blocks", "_scales"))
            tensors[name.removesuffix("_blocks")] = convert_moe_packed_tensors(
                tensors.pop(name), scales, dtype=torch.float32)
    for name, value in adapter.items():
        value, ours = value.float(), expert_values(stacks, name).float()
        if name.endswith("bias"):
            assert torch.equal(ours, value)
            continue
        plain = convert_moe_packed_tensors(*pack(value.T[None]), dtype=torch.float32)[0].T
        assert (ours - value).norm() <= (plain - value).norm() * 1.0001, name
        assert (ours - value).norm() <= 0.15 * value.norm()
    for name in base:
        if ".experts." not in name:
            assert torch.equal(found[name], base[name])
            continue
        layer = name.split(".")[2]
        others = [e for e in range(16) if e not in config["experts"].get(layer, [])]
        assert torch.equal(found[name][others], base[name][others])
    assert "rounding" in output
    info = json.loads((merged / "sutor_export.json").read_text())
    assert info["quantized"]["relative_error"] < 0.15
    check_loads(program, merged, tmp_path)


def test_merged_export_of_the_bf16_form(program, forms, tmp_path):
    rows = runner.write_rows(models.sample_ids(SHAPE), tmp_path / "rows.jsonl")
    config = models.pick_experts(models.build(SHAPE)) | {"non_expert_modules": True}
    run = runner.Run(program, tmp_path, forms[1], rows, config, steps=2, optim={"lr": 1e-2})
    adapter, merged = run.prepare().train_it().export()
    found, base = runner.read_tensors(merged), runner.read_tensors(forms[1])
    assert {n: (t.dtype, t.shape) for n, t in found.items()} == {
        n: (t.dtype, t.shape) for n, t in base.items()}
    for name, value in runner.read_tensors(adapter).items():
        assert torch.equal(found[name] if name in found else expert_values(found, name), value)
    for name in (n for n in base if ".experts." in n):
        others = [e for e in range(16) if e not in config["experts"][name.split(".")[2]]]
        assert torch.equal(found[name][others], base[name][others])
    check_loads(program, merged, tmp_path)
