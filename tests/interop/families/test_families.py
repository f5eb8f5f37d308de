"""What every family must do beyond its numbers (logits.py runs over all shapes for those):
names, layouts, export, stores, config forms, published sizes."""

import dataclasses
import json
import pathlib
import re

import pytest
import torch
import transformers

import logits
import models
import reference
import runner
from artifacts import bytes_of, convert, tree

# One shape a family: with groups, gates, biases and dense layers where it has them.
SHAPES = [models.shape(name) for name in (
    "q2-gqa", "mx-gqa", "ol-gqa-clip", "d3-groups", "g4-qk-norm-groups", "go-20b")]
FAMILIES = [s.family for s in SHAPES]
LAYOUTS = {"EP2xEDP2": (4, {"ep": 2}), "TP2xPP2": (4, {"tp": 2, "pp": 2}),
           "TP2+SP": (2, {"tp": 2, "sequence_parallel": True}), "CP2": (2, {"cp": 2}),
           "ETP2xEP2": (4, {"etp": 2, "ep": 2})}
PUBLISHED = json.loads(
    (pathlib.Path(__file__).parents[2] / "golden" / "published_configs.json").read_text())


def by_family(shapes=SHAPES):
    return pytest.mark.parametrize("shape", shapes, ids=lambda s: s.name)


def config_for(model, **flags):
    return models.pick_experts(model, per_layer=3, idle=True) | flags


# ---- training

@by_family()
def test_layouts_train_the_numbers_of_transformers(program, model_dir, tmp_path, shape):
    """Chosen experts, shared experts and everything else but correction biases."""
    model, ids = models.build(shape), models.sample_ids(shape)
    config = config_for(model, shared_experts=True, non_expert_modules=True)
    names = reference.trained_names(model, config)
    before = {n: reference.Views(model).value(n).clone() for n in names}
    biases = {n: b.clone() for n, b in model.named_buffers() if n.endswith("correction_bias")}
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    eps = 1e-6  # at 1e-8, rounding decides the steps of elements whose gradients are that small
    expected = reference.train(model, names, [ids] * 3, eps=eps)
    for layout, (ranks, parallel) in {"alone": (1, {}), **LAYOUTS}.items():
        run = runner.Run(program, tmp_path / layout, model_dir(shape), rows, config, steps=3,
                         optim={"eps": eps})
        run.prepare()
        program.run("train", run.recipe, *settings_of(parallel), ranks=ranks, timeout=180)
        assert run.losses() == pytest.approx(expected["losses"], rel=1e-5), layout
        assert [line["grad_norm"] for line in run.metrics()] == pytest.approx(
            expected["grad_norms"], rel=1e-4), layout
        adapter, merged = run.export()
        trained = runner.read_tensors(adapter)
        assert trained.keys() == set(names), layout
        for name, value in expected["values"].items():
            update = (value - before[name]).norm()
            assert (trained[name] - value).norm() <= 1e-3 * update, (layout, name)
    exported = runner.read_tensors(merged)
    for name, bias in biases.items():
        assert torch.equal(exported[name], bias)


def settings_of(parallel):
    return [part for key, value in parallel.items()
            for part in ("--set", f"parallel.{key}={str(value).lower()}")]


@by_family()
def test_what_one_layout_saves_another_resumes(program, model_dir, tmp_path, shape):
    """Of everything that can train; the losses are those of one process."""
    model, ids = models.build(shape), models.sample_ids(shape)
    config = config_for(model, shared_experts=True, non_expert_modules=True)
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    order = ["ETP2xEP2", "TP2+SP", "TP2xPP2", "CP2", "EP2xEDP2"]
    sections = {"checkpoint": {"every": 1, "keep": 2}}
    alone = runner.Run(program, tmp_path / "alone", model_dir(shape), rows, config,
                       steps=len(order), **sections).prepare().train_it()
    run = runner.Run(program, tmp_path / "changing", model_dir(shape), rows, config,
                     steps=len(order), **sections).prepare()
    for step, layout in enumerate(order, start=1):
        ranks, parallel = LAYOUTS[layout]
        program.run("train", run.recipe, *settings_of(parallel), "--set", f"schedule.epochs={step}",
                    *(["--resume"] if step > 1 else []), ranks=ranks, timeout=180)
        assert run.losses() == pytest.approx(alone.losses()[:step], rel=1e-5), layout


@by_family()
def test_full_training_leaves_correction_biases_alone(program, model_dir, tmp_path, shape):
    model, ids = models.build(shape), models.sample_ids(shape)
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    run = runner.Run(program, tmp_path, model_dir(shape), rows, steps=2, train={"method": "full"})
    run.prepare().train()
    expected = reference.train(model, reference.all_names(model), [ids] * 2)
    assert run.losses() == pytest.approx(expected["losses"], rel=1e-5)
    _, merged = run.export()
    ours, base = runner.read_tensors(merged), runner.read_tensors(model_dir(shape))
    still = {name for name in base if torch.equal(ours[name], base[name])}
    assert still == {name for name in base if name.endswith("e_score_correction_bias")}


@by_family()
def test_merged_export_loads_in_transformers(program, model_dir, tmp_path, shape):
    """With the logits that sutor computes from it, in fp32 and for a bf16 base."""
    model, ids = models.build(shape), models.sample_ids(shape)
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    for dtype in ("fp32", "bf16"):
        folder = tmp_path / dtype
        run = runner.Run(program, folder, model_dir(shape, dtype=dtype), rows,
                         config_for(model), steps=2, optim={"lr": 1e-2})
        run.set_section("model", {"dtype": dtype})
        _, merged = run.prepare().train_it().export()
        loaded = models.load(merged, torch.float32)
        found = logits.run_logits(program, merged, ids, folder)
        logits.check_forward(loaded, ids, found)
        base = models.load(model_dir(shape, dtype=dtype), torch.float32)
        with torch.no_grad():
            assert (base(input_ids=ids).logits - loaded(input_ids=ids).logits).abs().max() > 1e-3


# ---- names and files

def add_extra_layer(directory, layers):
    """A layer for multi-token prediction after the last one."""
    from safetensors.torch import load_file, save_file
    path = directory / "model.safetensors"
    tensors = load_file(path)
    for name, size in (("eh_proj.weight", (8, 16)), ("enorm.weight", (8,)),
                       ("mlp.experts.0.up_proj.weight", (4, 8))):
        tensors[f"model.layers.{layers}.{name}"] = torch.randn(size)
    save_file(tensors, path, metadata={"format": "pt"})


@by_family()
def test_there_and_back_with_layers_that_are_not_used(program, model_dir, copy_of, tmp_path, shape):
    source = copy_of(model_dir(shape, dtype="bf16"))
    ids = models.sample_ids(shape)
    folders = []
    for i, directory in enumerate((model_dir(shape, dtype="bf16"), source)):
        if i == 1:
            add_extra_layer(directory, shape.values["num_hidden_layers"])
        folders.append(tmp_path / str(i))
        folders[i].mkdir()
    plain, extended = (logits.run_logits(program, d, ids, f) for d, f in
                       zip((model_dir(shape, dtype="bf16"), source), folders))
    assert all(torch.equal(plain[n], extended[n]) for n in plain)
    convert(program, source, tmp_path / "store")
    convert(program, tmp_path / "store", tmp_path / "back")
    assert tree(source) == tree(tmp_path / "back")
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    config = config_for(models.build(shape))
    run = runner.Run(program, tmp_path / "run", tmp_path / "store", rows, config, steps=1)
    _, merged = run.prepare().train_it().export()
    before, after = bytes_of(source), bytes_of(merged)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    names = reference.trained_names(models.build(shape), config)
    assert changed and changed <= {reference.stored_name(name, shape.family) for name in names}


@by_family([models.shape("mx-gqa"), models.shape("q2-odd-tied"), models.shape("d3-odd-half")])
def test_fused_experts_give_the_same_bits(program, model_dir, tmp_path, shape):
    ids, results = models.sample_ids(shape), []
    for i, directory in enumerate((model_dir(shape), model_dir(shape, fused=True))):
        folder = tmp_path / str(i)
        folder.mkdir()
        results.append(logits.run_logits(program, directory, ids, folder))
    assert all(torch.equal(results[0][n], results[1][n]) for n in results[0])


def names_of(program, model, config, scheme, folder):
    path = models.write_json(config, folder / "params.json")
    output = program.run("params", "--config", path, "--model", model, "--names", scheme).output
    (rank,) = json.loads(output)["ranks"]
    return rank["names"], rank["regex"]


@by_family()
def test_params_and_its_regex(program, model_dir, tmp_path, shape):
    """Routed experts alone never take a gate, a shared expert or another expert with them."""
    model = models.build(shape)
    chosen = models.pick_experts(model, per_layer=2)
    every = set(runner.read_tensors(model_dir(shape))) | set(reference.all_names(model))
    for flags in ({}, {"shared_experts": True}, {"non_expert_modules": True},
                  {"shared_experts": True, "non_expert_modules": True}):
        config = chosen | flags
        names, regex = names_of(program, model_dir(shape), config, "hf", tmp_path)
        assert sorted(names) == sorted(reference.trained_names(model, config))
        assert {n for n in every if re.search(regex, n)} == set(names)
        assert not any(n.endswith("correction_bias") for n in names)


@by_family()
def test_megatron_names(program, model_dir, tmp_path, shape):
    model = models.build(shape)
    config = models.pick_experts(model, per_layer=models.num_experts(model.config))
    config |= {"shared_experts": True, "non_expert_modules": True}
    names, _ = names_of(program, model_dir(shape), config, "megatron-te", tmp_path)
    last = f"decoder.layers.{shape.values['num_hidden_layers'] - 1}."
    wanted = {"mlp.router.weight", "mlp.experts.linear_fc1.weight0",
              "mlp.experts.linear_fc2.weight0"}
    wanted |= {
        "qwen2_moe": {"mlp.shared_experts.linear_fc1.weight", "mlp.shared_experts.gate_weight",
                      "self_attention.linear_qkv.bias"},
        "mixtral": {"self_attention.linear_qkv.weight"},
        "olmoe": {"self_attention.q_layernorm.weight"},
        "deepseek_v3": {"mlp.shared_experts.linear_fc2.weight",
                        "self_attention.linear_q_down_proj.weight"},
        "glm4_moe": {"mlp.shared_experts.linear_fc1.weight", "self_attention.linear_qkv.bias",
                     "self_attention.k_layernorm.weight"},
        "gpt_oss": {"mlp.experts.linear_fc1.bias0", "mlp.experts.linear_fc2.bias0",
                    "mlp.router.bias", "self_attention.core_attention.softmax_offset",
                    "self_attention.linear_proj.bias"},
    }[shape.family]
    assert {last + n for n in wanted} <= set(names)


def test_patterns_cannot_train_a_correction_bias(program, model_dir, tmp_path):
    shape = models.shape("d3-groups")
    config = models.write_json(models.pick_experts(models.build(shape)), tmp_path / "config.json")
    common = ["params", "--config", config, "--model", model_dir(shape), "--format", "lines"]
    lines = program.run(*common, "--also-train", r".*mlp\.gate\..*").output.split()
    assert "model.layers.1.mlp.gate.weight" in lines
    assert not any("correction_bias" in line for line in lines)
    result = program.run(*common, "--also-train", r".*e_score_correction_bias", code=3)
    assert "E0316" in result.output and "can train" in result.output


# ---- configurations

@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("family", [*FAMILIES, "kimi_k2"])
def test_init_model(program, tmp_path, family, size):
    smaller = ["--set", "num_hidden_layers=2"] if size == "small" else []
    program.run("init-model", "--family", family, "--size", size, "--out", tmp_path / "model",
                "--dtype", "bf16", *smaller)
    if family == "kimi_k2":
        path = tmp_path / "model" / "config.json"
        path.write_text(path.read_text().replace('"kimi_k2"', '"deepseek_v3"'))
    model = models.load(tmp_path / "model", torch.float32)
    ids = torch.randint(0, 500, (2, 9), generator=torch.Generator().manual_seed(1))
    if size == "tiny":
        logits.check_forward(
            model, ids, logits.run_logits(program, tmp_path / "model", ids, tmp_path))
    biases = [t for n, t in runner.read_tensors(tmp_path / "model").items()
              if n.endswith("correction_bias")]
    assert all(t.dtype == torch.float32 for t in biases)


def test_kimi_k2_is_deepseek_v3(program, model_dir, copy_of, tmp_path):
    shape = models.shape("d3-kimi")
    copy = copy_of(model_dir(shape))
    path = copy / "config.json"
    path.write_text(path.read_text().replace('"deepseek_v3"', '"kimi_k2"'))
    ids = models.sample_ids(shape)
    logits.check_forward(models.build(shape), ids,
                              logits.run_logits(program, copy, ids, tmp_path))


def as_transformers_4_wrote(config):
    """rope_theta and rope_scaling of their own, torch_dtype."""
    config = dict(config)
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    partial = rope.pop("partial_rotary_factor", None)
    if partial is not None:
        config["partial_rotary_factor"] = partial
    kind = rope.pop("rope_type")
    config["rope_scaling"] = rope | {"type": kind} if kind != "default" else None
    config["torch_dtype"] = config.pop("dtype", "float32")
    config.pop("layer_types", None)
    return config


@by_family([*SHAPES, models.shape("g4-odd-tied")])
def test_configuration_of_transformers_4(program, model_dir, copy_of, tmp_path, shape):
    copy = copy_of(model_dir(shape))
    path = copy / "config.json"
    models.write_json(as_transformers_4_wrote(json.loads(path.read_text())), path)
    ids, found = models.sample_ids(shape), []
    for i, directory in enumerate((model_dir(shape), copy)):
        folder = tmp_path / str(i)
        folder.mkdir()
        found.append(logits.run_logits(program, directory, ids, folder))
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


EIGHT_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 8}
LEFT_OUT = [  # shape, values that are the class's defaults, keys that the file leaves out
    ("g4-air", EIGHT_HEADS, ["n_shared_experts", "first_k_dense_replace", "n_group", "topk_group",
                             "num_key_value_heads", "rms_norm_eps", "norm_topk_prob",
                             "use_qk_norm", "routed_scaling_factor"]),
    ("d3-groups", {"n_group": 8, "topk_group": 4, "first_k_dense_replace": 3,
                   "num_hidden_layers": 4},
     ["n_shared_experts", "first_k_dense_replace", "n_group", "topk_group", "norm_topk_prob",
      "routed_scaling_factor", "rope_interleave"]),
    ("mx-gqa", EIGHT_HEADS, ["num_key_value_heads", "rms_norm_eps"]),
    ("ol-plain", {}, ["rms_norm_eps", "norm_topk_prob", "clip_qkv"]),
    ("q2-gqa", {}, ["norm_topk_prob", "qkv_bias", "decoder_sparse_step", "mlp_only_layers"]),
    ("qw-gqa", {"num_key_value_heads": 4, "norm_topk_prob": False},
     ["num_key_value_heads", "norm_topk_prob", "decoder_sparse_step", "rms_norm_eps"]),
    ("go-20b", EIGHT_HEADS | {"head_dim": 64, "swiglu_limit": 7.0, "rope_parameters": None,
                              "max_position_embeddings": 131072, "sliding_window": 128},
     ["num_key_value_heads", "rms_norm_eps", "head_dim", "swiglu_limit", "swiglu_alpha",
      "attention_bias", "layer_types", "rope_parameters", "sliding_window"]),
]


@pytest.mark.parametrize("name,values,keys", LEFT_OUT, ids=lambda v: v if type(v) is str else "")
def test_keys_that_are_left_out_have_transformers_defaults(program, model_dir, copy_of, tmp_path,
                                                           name, values, keys):
    shape = models.shape(name)
    shape = dataclasses.replace(shape, name=f"{name}-left-out", values=shape.values | values)
    copy, found = copy_of(model_dir(shape)), []
    path = copy / "config.json"
    config = json.loads(path.read_text())
    models.write_json({k: v for k, v in config.items() if k not in keys}, path)
    theirs = transformers.AutoConfig.from_pretrained(copy)
    assert all(getattr(theirs, key) == config[key] for key in keys if key in config)
    ids = models.sample_ids(shape)
    for i, directory in enumerate((model_dir(shape), copy)):
        folder = tmp_path / str(i)
        folder.mkdir()
        found.append(logits.run_logits(program, directory, ids, folder))
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


UNSUPPORTED = [  # shape, key, value, words
    ("q2-gqa", "layer_types", ["full_attention", "sliding_attention", "full_attention"], "full"),
    ("ol-plain", "use_sliding_window", True, "false"),
    ("q2-gqa", "hidden_act", "gelu", "silu"),
    ("q2-gqa", "attention_dropout", 0.1, "only 0"),
    ("q2-gqa", "rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e4}, "yarn"),
    ("q2-gqa", "rope_parameters", {"full_attention": {"rope_type": "default"}}, "alike"),
    ("q2-gqa", "partial_rotary_factor", 0.5, "whole heads"),
    ("mx-gqa", "router_jitter_noise", 0.01, "only 0"),
    ("d3-groups", "scoring_func", "softmax", "sigmoid"),
    ("d3-groups", "topk_method", "greedy", "noaux_tc"),
    ("d3-groups", "moe_layer_freq", 2, "dense"),
    ("g4-air", "mlp_bias", True, "false"),
    ("go-20b", "layer_types", ["chunked_attention"] * 3, "sliding_attention"),
    ("go-20b", "rope_parameters", {"rope_type": "longrope", "rope_theta": 1e4}, "yarn"),
]
IMPOSSIBLE = [  # likewise
    ("mx-gqa", "sliding_window", 0, "1 or more"),
    ("ol-plain", "clip_qkv", 0, "above 0"),
    ("ol-plain", "head_dim", 24, "wide"),
    ("d3-groups", "n_group", 3, "divide"),
    ("d3-groups", "n_group", 16, "fewer"),
    ("d3-groups", "topk_group", 5, "more than"),
    ("d3-groups", "num_experts_per_tok", 17, "more than"),
    ("g4-air", "partial_rotary_factor", 0.2, "even"),
    ("go-20b", "layer_types", ["full_attention"], "each layer"),
    ("go-20b", "sliding_window", 0, "1 or more"),
    ("go-20b", "swiglu_limit", 0.0, "above 0"),
]
REFUSED = [("E0320", *case) for case in UNSUPPORTED] + [("E0321", *case) for case in IMPOSSIBLE]


@pytest.mark.parametrize("code,name,key,value,words", REFUSED, ids=lambda v: str(v)[:20])
def test_what_a_family_does_not_support_is_refused_by_name(program, model_dir, tmp_path, code, name,
                                                           key, value, words):
    config = json.loads((model_dir(models.shape(name)) / "config.json").read_text())
    if key == "partial_rotary_factor":
        config["rope_parameters"].pop(key, None)
    config[key] = value
    path = models.write_json(config, tmp_path / "config.json")
    experts = models.write_json({"experts": {"1": [0]}, "shared_experts": False,
                                 "non_expert_modules": False}, tmp_path / "experts.json")
    result = program.run("params", "--config", experts, "--model", path, code=None)
    assert result.code != 0
    assert code in result.output and f"`{key}`" in result.output and words in result.output


@pytest.mark.parametrize("item", PUBLISHED, ids=lambda item: item["name"])
def test_published_sizes(program, tmp_path, item):
    config = item["config"]
    path = models.write_json(config, tmp_path / f"{item['name']}.json")
    found = json.loads(program.run("inspect", path, "--json").output)
    for key, measure in (("billions", "parameters"), ("active_billions", "active_parameters")):
        digits = len(item[key].split(".")[1])
        assert f"{found[measure] / 1e9:.{digits}f}" == item[key], measure
    assert found["family"] == config["model_type"]
    assert found["layers"] == config["num_hidden_layers"]
    assert found["experts_a_layer"] == models.experts_of(config)
    assert found["experts_a_token"] == config["num_experts_per_tok"]
    width = config.get("moe_intermediate_size", config["intermediate_size"])
    assert found["expert_width"] == width
    shared = config.get("shared_expert_intermediate_size",
                        width * config.get("n_shared_experts", 0))
    assert found.get("shared_expert_width", 0) == shared
