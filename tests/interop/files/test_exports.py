"""What the program writes opens in transformers and holds what it should."""

import json

import pytest
import safetensors.torch
import torch

import models
import reference
import runner
from artifacts import bytes_of, load_checked
from logits import run_logits


FORMS = [("fp32", {}), ("fp32", {"max_shard_size": 300_000}), ("bf16", {}),
         ("bf16", {"max_shard_size": 150_000}), ("fp32", {"fused": True})]


@pytest.mark.parametrize("dtype,form", FORMS, ids=lambda v: str(v))
@pytest.mark.parametrize("name", ["ds-lite", "qw-odd-bias-tied"])
def test_merged_model(program, model_dir, tmp_path, name, dtype, form):
    shape = models.shape(name)
    base, ids = model_dir(shape, dtype=dtype, **form), models.sample_ids(shape)
    model = models.load(base, torch.float32)
    config = models.pick_experts(model)
    names = reference.trained_names(model, config)
    run = runner.Run(program, tmp_path, base, runner.write_rows(ids, tmp_path / "rows.jsonl"),
                     config, optim={"lr": 1e-2})
    run.prepare().train()
    adapter, merged = run.export()

    # Files: same shards and index; untouched tensors have the same bytes, trained ones do not.
    assert {p.name for p in base.iterdir()} <= {p.name for p in merged.iterdir()}
    for path in base.glob("*.json"):
        assert json.loads(path.read_text()) == json.loads((merged / path.name).read_text())
    before, after = bytes_of(base), bytes_of(merged)
    assert before.keys() == after.keys()
    on_disk = names
    if form.get("fused"):
        on_disk = [f"model.layers.{layer}.mlp.experts.{part}_proj"
                   for layer in config["experts"] for part in ("gate_up", "down")]
    for name_ in before:
        assert before[name_][:2] == after[name_][:2]
        assert (before[name_] != after[name_]) == (name_ in on_disk), name_

    # Values: what the adapter says, and nothing else, is what transformers loads.
    tensors = runner.read_tensors(adapter)
    assert set(tensors) == set(names)
    assert json.loads((adapter / "expert_cfg.json").read_text()) == config
    loaded, base_views = load_checked(merged), reference.Views(model)
    views = reference.Views(loaded)
    for name_ in views.names():
        if name_ in tensors:
            assert torch.equal(views.value(name_), tensors[name_].float())
        else:
            assert torch.equal(views.value(name_), base_views.value(name_)), name_
    with torch.no_grad():
        expected = loaded(input_ids=ids).logits
    assert (run_logits(program, merged, ids, tmp_path)["logits"] - expected).abs().max() <= 1e-4


def test_no_other_copy_of_the_weights_is_exported(program, model_dir, copy_of, tmp_path):
    """A GPT-OSS folder as published has the base's weights three times. Told once, and recorded."""
    shape = models.shape("go-20b")
    base, ids = copy_of(model_dir(shape)), models.sample_ids(shape)
    config = models.pick_experts(models.load(base, torch.float32), layers=[1])
    copies = ["metal/model.bin", "original/model.safetensors", "model-Q4_K_M.gguf",
              "adapter_config.json"]
    for name in [*copies, "original/config.json"]:
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("of the base")
    run = runner.Run(program, tmp_path, base, runner.write_rows(ids, tmp_path / "rows.jsonl"),
                     config, steps=1)
    run.prepare().train()
    told = program.run("export", run.recipe, "--format", "merged", "--verify").output
    merged = run.output / "export" / "merged"
    assert not any((merged / name).exists() for name in copies)
    assert (merged / "original/config.json").exists()
    line, = [line for line in told.splitlines() if "left out" in line]
    assert all(name in line for name in copies)
    assert json.loads((merged / "sutor_export.json").read_text())["left_out"] == sorted(copies)


@pytest.mark.parametrize("form", [{}, {"max_shard_size": 150_000}], ids=str)
def test_a_head_that_is_stored_and_tied_follows_the_trained_embedding(program, model_dir, copy_of,
                                                                      tmp_path, form):
    shape = models.shape("qw-odd-bias-tied")
    base, ids = copy_of(model_dir(shape, **form)), models.sample_ids(shape)
    store_head(base)
    run = runner.Run(program, tmp_path, base, runner.write_rows(ids, tmp_path / "rows.jsonl"),
                     steps=1, train={"method": "full"})
    run.prepare().train()
    merged = run.output / "export" / "merged"
    program.run("export", run.recipe, "--format", "merged", "--verify")
    head, embedding = (bytes_of(merged)[name] for name in ("lm_head.weight",
                                                           "model.embed_tokens.weight"))
    assert head == embedding
    assert head != bytes_of(base)["lm_head.weight"]


def store_head(folder):
    """Stores the embedding once more, as the tied head: in the one file, or in one of its own."""
    tensors = runner.read_tensors(folder)
    head = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    index = folder / "model.safetensors.index.json"
    if index.exists():
        content = json.loads(index.read_text())
        content["weight_map"]["lm_head.weight"] = "head.safetensors"
        index.write_text(json.dumps(content))
        safetensors.torch.save_file(head, folder / "head.safetensors", metadata={"format": "pt"})
    else:
        safetensors.torch.save_file({**tensors, **head}, folder / "model.safetensors",
                                    metadata={"format": "pt"})


@pytest.mark.parametrize("dtype,form", FORMS, ids=lambda v: str(v))
def test_export_without_training_is_the_base(program, model_dir, tmp_path, dtype, form):
    """Every file, byte for byte, and no other file."""
    shape = models.shape("ds-lite")
    base = model_dir(shape, dtype=dtype, **form)
    run = runner.Run(program, tmp_path, base,
                     runner.write_rows(models.sample_ids(shape), tmp_path / "rows.jsonl"))
    program.run("export", run.recipe, "--checkpoint", "none", "--format", "merged", "--verify")
    merged = run.output / "export" / "merged"
    assert {p.name for p in base.iterdir()} == {p.name for p in merged.iterdir()}
    for path in base.iterdir():
        assert path.read_bytes() == (merged / path.name).read_bytes(), path.name


@pytest.mark.parametrize("family", ["deepseek_v2", "qwen3_moe"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_init_model(program, tmp_path, family, dtype):
    folder = tmp_path / "model"
    program.run("init-model", "--family", family, "--size", "tiny", "--seed", "3", "--dtype", dtype,
                "--out", folder)
    assert sum(p.stat().st_size for p in folder.glob("*.safetensors")) < 4_000_000
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == family
    model = load_checked(folder, torch.float32)
    assert (folder / "generation_config.json").exists()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (2, 20), generator=generator)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    assert expected.std() > 0 and torch.isfinite(expected).all()
    assert (run_logits(program, folder, ids, tmp_path)["logits"] - expected).abs().max() <= 1e-4


def test_init_model_is_a_function_of_its_seed(program, tmp_path):
    digests = []
    for i, seed in enumerate([3, 3, 4]):
        program.run("init-model", "--family", "qwen3_moe", "--size", "tiny", "--seed", seed,
                    "--set", "num_hidden_layers=1", "--out", tmp_path / str(i))
        digests.append(bytes_of(tmp_path / str(i)))
        assert json.loads((tmp_path / str(i) / "config.json").read_text())["num_hidden_layers"] == 1
    assert digests[0] == digests[1] != digests[2]


def test_an_adapter_in_the_published_form_is_read(program, model_dir, tmp_path):
    """Names without the leading `model.`, no digest of the base, bf16."""
    from safetensors.torch import save_file
    shape = models.shape("ds-lite")
    base, ids = model_dir(shape, dtype="bf16"), models.sample_ids(shape)
    model = models.load(base, torch.float32)
    config = models.pick_experts(model)
    names, views = reference.trained_names(model, config), reference.Views(model)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    tensors = {n: (views.value(n) * 1.5).to(torch.bfloat16) for n in names}
    save_file({n.removeprefix("model."): t.contiguous() for n, t in tensors.items()},
              adapter / "model.safetensors")
    (adapter / "expert_cfg.json").write_text(json.dumps(config))
    result = program.run("inspect", adapter)
    assert "adapter" in result.output and str(len(names)) in result.output, str(result)
    (adapter / "expert_cfg.json").write_text("{")
    result = program.run("inspect", adapter, code=3)
    assert "expert_cfg.json" in result.output
