"""Matrices that are stored in fewer bits: FP8 with block scales as transformers takes it apart,
packed 4-bit as its format says; round trips through stores, training beside them, merged exports.
"""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

import logits
import models
import runner
from artifacts import convert, directory_of, load_checked, tree

SHAPE = models.shape("d3-groups")
# What releases quantise: every linear but the router, the head and the embedding.
LINEAR = re.compile(r".*\.(self_attn\..*_proj(_with_mqa)?|mlp\..*(gate|up|down)_proj)\.weight")
EXPERT = re.compile(r".*\.mlp\.experts\.\d+\.(gate|up|down)_proj\.weight")


def over_blocks(scales, shape, block):
    whole = scales.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    return whole[:shape[0], :shape[1]]


def to_fp8(tensors, block):
    """(stored tensors, what they stand for in fp32)"""
    stored, meant = {}, {}
    for name, weight in tensors.items():
        if not LINEAR.fullmatch(name):
            stored[name] = meant[name] = weight
            continue
        rows, cols = weight.shape
        grid = -(-rows // block[0]), -(-cols // block[1])
        scales = torch.empty(grid)
        for i in range(grid[0]):
            for j in range(grid[1]):
                tile = weight[i * block[0]:(i + 1) * block[0], j * block[1]:(j + 1) * block[1]]
                scales[i, j] = tile.float().abs().max() / 448
        spread = over_blocks(scales, weight.shape, block)
        stored[name] = (weight.float() / spread).to(torch.float8_e4m3fn)
        stored[name + "_scale_inv"] = scales
        meant[name] = stored[name].float() * spread
        if rows % grid[0] == 0 and cols % grid[1] == 0 and rows // grid[0] == block[0]:
            from transformers.integrations.finegrained_fp8 import Fp8Dequantize
            for dtype in (torch.float32, torch.bfloat16):
                theirs = Fp8Dequantize(None)._dequantize_one(stored[name], scales, dtype)
                assert torch.equal(theirs, meant[name].to(dtype))
    return stored, meant


def to_int4(tensors, group):
    """Experts alone, as Kimi-K2-Thinking has them; (stored, meant in bf16)."""
    stored, meant = {}, {}
    for name, weight in tensors.items():
        if not EXPERT.fullmatch(name):
            stored[name] = meant[name] = weight
            continue
        rows, cols = weight.shape
        groups = weight.float().reshape(rows, cols // group, group)
        scales = (groups.abs().amax(-1) / 7.5).to(torch.bfloat16)
        values = (groups / scales.float().unsqueeze(-1)).round().clamp(-8, 7)
        meant[name] = (values.to(torch.bfloat16) * scales.unsqueeze(-1)).reshape(rows, cols)
        nibbles = (values.reshape(rows, cols // 8, 8) + 8).to(torch.int64)
        words = sum(nibbles[..., i] << (4 * i) for i in range(8))
        stem = name.removesuffix("weight")
        stored[stem + "weight_packed"] = torch.where(
            words >= 2**31, words - 2**32, words).to(torch.int32)
        stored[stem + "weight_scale"] = scales
        stored[stem + "weight_shape"] = torch.tensor([rows, cols])
    return stored, meant


FORMS = {
    "fp8-even": lambda t: to_fp8(t, (8, 8)),
    "fp8-uneven": lambda t: to_fp8(t, (20, 24)),
    "fp8-whole": lambda t: to_fp8(t, (128, 128)),
    "int4": lambda t: to_int4(t, 16),
}
CONFIGS = {
    "fp8": lambda block: {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                          "weight_block_size": list(block)},
    "int4": lambda _: {"quant_method": "compressed-tensors", "format": "pack-quantized"},
}
BLOCKS = {"fp8-even": (8, 8), "fp8-uneven": (20, 24), "fp8-whole": (128, 128), "int4": None}


@pytest.fixture(scope="module")
def quantized(model_dir, tmp_path_factory):
    """quantized(form, dtype) -> (directory in that form, the same model plainly in dtype)."""
    base, made = tmp_path_factory.mktemp("quantized"), {}

    def both(form, dtype):
        if (form, dtype) not in made:
            source = model_dir(SHAPE, dtype="bf16")
            config = json.loads((source / "config.json").read_text())
            stored, meant = FORMS[form](load_file(source / "model.safetensors"))
            plain = {n: t.to(dtype) if LINEAR.fullmatch(n) else t for n, t in meant.items()}
            added = {"quantization_config": CONFIGS[form.partition("-")[0]](BLOCKS[form])}
            name = f"{form}-{dtype}"
            made[form, dtype] = (directory_of(base / name, config | added, stored),
                                 directory_of(base / f"{name}-plain", config, plain))
        return made[form, dtype]

    return both


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("form", FORMS)
def test_same_bits_as_the_dequantised_model(program, quantized, tmp_path, form, dtype):
    ids, results = models.sample_ids(SHAPE), []
    pair = quantized(form, torch.float32 if dtype == "fp32" else torch.bfloat16)
    for i, directory in enumerate(pair):
        folder = tmp_path / str(i)
        folder.mkdir()
        results.append(logits.run_logits(program, directory, ids, folder, dtype=dtype))
    assert all(torch.equal(results[0][n], results[1][n]) for n in results[0])
    if dtype == "fp32" and form != "int4":
        loaded = models.load(pair[1], torch.float32)
        logits.check_forward(loaded, ids, results[0])


@pytest.mark.parametrize("form", ["fp8-uneven", "int4"])
def test_there_and_back(program, quantized, tmp_path, form):
    source, _ = quantized(form, torch.bfloat16)
    convert(program, source, tmp_path / "store")
    convert(program, tmp_path / "store", tmp_path / "back")
    assert tree(source) == tree(tmp_path / "back")
    report = json.loads(program.run("inspect", tmp_path / "back", "--json").output)
    assert report["weights"] == "complete" and report["unexpected_tensors"] == []


@pytest.mark.parametrize("layout", [(1, {}), (4, {"tp": 2, "ep": 2}), (2, {"etp": 2})], ids=str)
@pytest.mark.parametrize("form", ["fp8-uneven", "int4"])
def test_training_beside_them(program, quantized, tmp_path, form, layout):
    """Losses and trained weights are those of the dequantised model; packed ones merge by either
    rule."""
    ranks, parallel = layout
    ids = models.sample_ids(SHAPE)
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    config = models.pick_experts(models.build(SHAPE))
    runs = []
    for i, directory in enumerate(quantized(form, torch.float32)):
        run = runner.Run(program, tmp_path / str(i), directory, rows, config, steps=2).prepare()
        settings = [part for key, value in parallel.items()
                    for part in ("--set", f"parallel.{key}={value}")]
        program.run("train", run.recipe, *settings, ranks=ranks)
        program.run("export", run.recipe, "--checkpoint", run.checkpoints()[-1], "--format",
                    "adapter")
        runs.append(run)
    assert runs[0].losses() == runs[1].losses()
    ours, plain = (runner.read_tensors(r.output / "export" / "adapter") for r in runs)
    assert ours.keys() == plain.keys()
    assert all(t.dtype == torch.bfloat16 for t in ours.values())  # as the config says
    assert all(torch.equal(ours[n], plain[n].to(torch.bfloat16)) for n in ours)
    if form != "int4":
        return
    for rule in ("dequantize", "requantize"):
        program.run("export", runs[0].recipe, "--checkpoint", runs[0].checkpoints()[-1],
                    "--format", "merged", "--quantized", rule, "--verify", "--out",
                    tmp_path / rule)
        after = runner.read_tensors(tmp_path / rule / "merged")
        for name, tensor in ours.items():
            if rule == "dequantize":
                assert torch.equal(after[name], tensor) and name + "_packed" not in after
            else:
                assert name not in after and name + "_packed" in after


# Blocks that divide every matrix, which transformers asks for.
MERGED_FORM = "fp8-even"


@pytest.fixture(scope="module")
def trained(program, quantized, tmp_path_factory):
    """trained(kind, form) -> (run, its directory): some experts of one layer and all shared ones,
    trained on the quantised directory, on a store made of it, or on the same model in fp32."""
    base, made = tmp_path_factory.mktemp("trained"), {}

    def train(kind, form=MERGED_FORM):
        if (kind, form) not in made:
            folder = base / f"{kind}-{form}"
            source, plain = quantized(form, torch.float32)
            if kind == "store":
                convert(program, source, base / "base-store")
            directory = {"directory": source, "plain": plain, "store": base / "base-store"}[kind]
            rows = runner.write_rows(models.sample_ids(SHAPE), base / f"{folder.name}.jsonl")
            config = models.pick_experts(models.build(SHAPE), layers=[1])
            config["shared_experts"] = True
            run = runner.Run(program, folder, directory, rows, config, steps=2)
            made[kind, form] = run.prepare().train_it(), directory
        return made[kind, form]

    return train


def export(run, rule, name):
    _, merged = run.export("--quantized", rule, "--out", run.folder / name)
    return run.folder / name / "adapter", run.folder / name / "merged"


def masters(trained, form=MERGED_FORM):
    """What was trained, before any rounding: the base is fp32, so is its adapter."""
    run, _ = trained("plain", form)
    if not (run.output / "export").exists():
        run.export()
    return runner.read_tensors(run.output / "export" / "adapter")


def test_merged_and_dequantised(program, trained, quantized, tmp_path):
    """Trained values and their whole layer in bf16, the rest byte for byte; transformers loads it
    and computes what sutor does."""
    run, directory = trained("directory")
    adapter, merged = export(run, "dequantize", "bf16")
    before, after = runner.read_tensors(directory), runner.read_tensors(merged)
    values, new = masters(trained), runner.read_tensors(adapter)
    assert new.keys() == values.keys()
    plain = runner.read_tensors(trained("plain")[1])
    beside = {n for n in before if EXPERT.fullmatch(n) and ".layers.1." in n}
    assert beside & new.keys() and beside - new.keys() and new.keys() - beside
    for name, tensor in after.items():
        if name in new:
            assert torch.equal(tensor, values[name].to(torch.bfloat16)), name
        elif name in beside:
            assert torch.equal(tensor, plain[name].to(torch.bfloat16)), name
        else:
            assert tensor.dtype == before[name].dtype, name
            assert torch.equal(tensor.view(torch.uint8), before[name].view(torch.uint8)), name
    gone = {n + "_scale_inv" for n in beside | new.keys()}
    assert before.keys() - after.keys() == gone and after.keys() <= before.keys()

    config = json.loads((merged / "config.json").read_text())
    modules = config["quantization_config"].pop("modules_to_not_convert")
    assert modules[0] == "lm_head" and "model.layers.1.mlp.experts" in modules
    assert set(modules[2:]) == {n.removesuffix(".weight") for n in new.keys() - beside}
    assert config == json.loads((directory / "config.json").read_text())
    ids = models.sample_ids(SHAPE)
    loaded = load_checked(merged).float()  # it leaves what is not quantised in bf16
    logits.check_forward(loaded, ids, logits.run_logits(program, merged, ids, tmp_path))
    named = dict(loaded.named_parameters())
    for name in new.keys() - beside:
        assert torch.equal(named[name].detach(), values[name].to(torch.bfloat16).float()), name

    report = json.loads((merged / "sutor_export.json").read_text())
    assert report["quantized"]["rule"] == "dequantize"
    assert report["quantized"]["tensors"] == len(new)
    error = sum(((values[n].to(torch.bfloat16).float() - values[n]).double() ** 2).sum()
                for n in new) / sum((values[n].double() ** 2).sum() for n in new)
    assert report["quantized"]["relative_error"] == pytest.approx(float(error ** .5), rel=1e-5)
    program.run("verify", merged)


def quantised_again(weight, form=MERGED_FORM):
    stored, meant = to_fp8({"model.layers.0.mlp.up_proj.weight": weight}, BLOCKS[form])
    (name, codes), (_, scales) = stored.items()
    return codes, scales, meant[name]


@pytest.mark.parametrize("form", [f for f in FORMS if f != "int4"])
def test_merged_and_requantised(program, trained, form):
    """The same header; trained matrices as the formula gives them, all else byte for byte."""
    run, directory = trained("directory", form)
    _, merged = export(run, "requantize", "again")
    header = (directory / "model.safetensors").read_bytes()
    length = 8 + int.from_bytes(header[:8], "little")
    assert (merged / "model.safetensors").read_bytes()[:length] == header[:length]
    assert (merged / "config.json").read_bytes() == (directory / "config.json").read_bytes()
    before, after = runner.read_tensors(directory), runner.read_tensors(merged)
    values, squares, sizes = masters(trained, form), 0, 0
    expected = {}
    for name, value in values.items():
        expected[name], expected[name + "_scale_inv"], stands = quantised_again(value, form)
        squares += ((stands - value).double() ** 2).sum()
        sizes += (value.double() ** 2).sum()
    for name, tensor in after.items():
        wanted = expected.get(name, before[name])
        assert torch.equal(tensor.view(torch.uint8), wanted.view(torch.uint8)), name
    report = json.loads((merged / "sutor_export.json").read_text())["quantized"]
    assert report["rule"] == "requantize" and report["tensors"] == len(values)
    assert report["relative_error"] == pytest.approx(float((squares / sizes) ** .5), rel=1e-5)
    assert 0 < report["relative_update"] < 1
    assert report["largest_error"]["relative_error"] >= report["relative_error"]
    assert report["largest_error"]["tensor"] in values
    program.run("verify", merged)


@pytest.mark.parametrize("rule", ["dequantize", "requantize"])
def test_the_store_trains_and_exports_the_same(program, trained, rule):
    (run, _), (of_store, _) = trained("directory"), trained("store")
    assert run.losses() == of_store.losses()
    ours, theirs = tree(export(run, rule, f"{rule}-a")[1]), tree(export(of_store, rule, rule)[1])
    for info in (ours, theirs):
        info.pop("sutor_export.json")  # it holds the command line
    assert ours == theirs


@pytest.mark.parametrize("rule", ["dequantize", "requantize"])
def test_adapters_merge_onto_a_quantised_base(program, trained, tmp_path, rule):
    run, directory = trained("directory")
    adapter, _ = export(run, rule, f"{rule}-merge")
    program.run("merge", "--base", directory, "--adapter", adapter, "--out", tmp_path / "merged",
                "--quantized", rule, "--verify")
    after, new = runner.read_tensors(tmp_path / "merged"), runner.read_tensors(adapter)
    for name, value in new.items():
        wanted = value if rule == "dequantize" else quantised_again(value)[0]
        assert torch.equal(after[name].view(torch.uint8), wanted.view(torch.uint8)), name


def test_requantising_that_swallows_the_training_is_told(program, quantized, tmp_path):
    source, _ = quantized(MERGED_FORM, torch.float32)
    rows = runner.write_rows(models.sample_ids(SHAPE), tmp_path / "rows.jsonl")
    config = models.pick_experts(models.build(SHAPE), layers=[1])
    run = runner.Run(program, tmp_path / "run", source, rows, config, steps=1, optim={"lr": 1e-5})
    run.prepare().train_it()
    told = {}
    for rule in ("dequantize", "requantize"):
        told[rule] = program.run("export", run.recipe, "--checkpoint", run.checkpoints()[-1],
                                 "--set", f"export.quantized={rule}", "--format", "merged",
                                 "--verify", "--out", run.folder / rule).output
        assert "relative rounding error" in told[rule]
    assert "W0103" in told["requantize"] and "W0103" not in told["dequantize"]


def test_transformers_takes_a_model_that_is_partly_mxfp4(tmp_path):
    """The form of a dequantised export: the other layers keep blocks, the modules that have none
    are listed. On a CPU all is dequantised; on a GPU the list decides."""
    import transformers
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    from transformers.quantizers.quantizers_utils import should_convert_module
    torch.manual_seed(0)
    config = transformers.GptOssConfig(
        hidden_size=64, intermediate_size=32, num_local_experts=4, num_experts_per_tok=2,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        vocab_size=128, dtype=torch.bfloat16)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain = {n: t.clone() for n, t in model.state_dict().items()}
    mixed = dict(plain)
    for name, tensor in plain.items():
        if not re.fullmatch(r"model\.layers\.1\.mlp\.experts\.(gate_up|down)_proj", name):
            continue
        experts, inner, out = tensor.shape
        blocks = torch.randint(0, 256, (experts, out, inner // 32, 16), dtype=torch.uint8)
        scales = torch.randint(118, 124, (experts, out, inner // 32), dtype=torch.uint8)
        plain[name] = convert_moe_packed_tensors(blocks, scales)
        del mixed[name]
        mixed |= {name + "_blocks": blocks, name + "_scales": scales}
    listed = ["lm_head", "model.layers.0.mlp.experts"]
    written = json.loads(config.to_json_string()) | {"architectures": ["GptOssForCausalLM"]}
    quantized = {"quant_method": "mxfp4", "modules_to_not_convert": listed}
    loaded = [load_checked(directory_of(tmp_path / name, written | added, tensors))
              for name, added, tensors in (("plain", {}, plain),
                                           ("mixed", {"quantization_config": quantized}, mixed))]
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        assert torch.equal(loaded[0](ids).logits, loaded[1](ids).logits)
    assert not should_convert_module("model.layers.0.mlp.experts", listed)
    assert should_convert_module("model.layers.1.mlp.experts", listed)


def test_what_does_not_fit_is_refused(program, quantized, copy_of, tmp_path):
    source, _ = quantized("fp8-even", torch.bfloat16)
    corrupted = copy_of(source)
    path = corrupted / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    scales = tensors.pop(name + "_scale_inv")
    ids = runner.write_ids(models.sample_ids(SHAPE), tmp_path / "ids.json")
    for bad in (None, scales[:-1].contiguous()):
        if bad is not None:
            tensors[name + "_scale_inv"] = bad
        save_file(tensors, path, metadata={"format": "pt"})
        result = program.run("logits", "--model", corrupted, "--ids", ids, "--out",
                             tmp_path / "out.safetensors", code=None)
        assert result.code != 0 and "E0307" in result.output and name in result.output
