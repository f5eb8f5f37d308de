"""Model folders as people bring them: an index that does not add up, a tied flag over two tensors,
tensors that nobody reads, experts in two forms, a prefix in all names."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import logits
import models
import runner

QW, GO = models.shape("qw-gqa"), models.shape("go-20b")
EXPERT = "model.layers.1.mlp.experts.0.up_proj"


def change_config(folder, **values):
    path = folder / "config.json"
    models.write_json(json.loads(path.read_text()) | values, path)


def change_tensors(folder, change):
    """change: called with {name: tensor}, which it changes or replaces."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({n: t.contiguous() for n, t in (change(tensors) or tensors).items()}, path,
              metadata={"format": "pt"})


def verb_logits(program, folder, shape, tmp_path, code=0):
    """(result, logits or None)."""
    ids = runner.write_ids(models.sample_ids(shape, rows=1), tmp_path / "ids.json")
    out = tmp_path / "out.safetensors"
    result = program.run("logits", "--model", folder, "--ids", ids, "--out", out, code=code)
    return result, load_file(out)["logits"] if code == 0 else None


@pytest.fixture
def sharded(tmp_path):
    """A model in shards, its index, and a function that writes the index anew."""
    model = models.build(QW)
    folder = models.save(model, tmp_path / "sharded", max_shard_size="150KB")
    path = folder / "model.safetensors.index.json"
    return folder, json.loads(path.read_text()), lambda index: models.write_json(index, path)


@pytest.mark.parametrize("total", [0, 251936, "1007744", None])
def test_a_total_size_that_nobody_reads_is_a_warning(program, sharded, tmp_path, total):
    folder, index, write = sharded
    write(index | {"metadata": {"total_size": total}})
    result, found = verb_logits(program, folder, QW, tmp_path)
    with torch.no_grad():
        expected = models.build(QW)(input_ids=models.sample_ids(QW, rows=1)).logits
    assert (found - expected).abs().max() <= 1e-4
    assert result.output.count("warning[W0306]") == 1
    assert str(index["metadata"]["total_size"]) in result.output


@pytest.mark.parametrize("metadata", [None, {"total_parameters": 7}])
def test_an_index_without_a_total_size_is_no_matter(program, sharded, tmp_path, metadata):
    folder, index, write = sharded
    write(index | {"metadata": metadata})
    result, _ = verb_logits(program, folder, QW, tmp_path)
    assert "W0306" not in result.output


def test_a_tied_flag_over_two_tensors_is_refused(program, model_dir, copy_of, tmp_path):
    """transformers computes with both; so does sutor once the flag says so."""
    folder = copy_of(model_dir(QW))
    _, wanted = verb_logits(program, folder, QW, tmp_path)
    change_config(folder, tie_word_embeddings=True)
    result, _ = verb_logits(program, folder, QW, tmp_path, code=3)
    assert "E0321" in result.output and "`tie_word_embeddings`" in result.output
    program.run("convert", "--from", folder, "--to", tmp_path / "store")
    result, _ = verb_logits(program, tmp_path / "store", QW, tmp_path, code=3)
    assert "E0321" in result.output
    rows = runner.write_rows(models.sample_ids(QW), tmp_path / "rows.jsonl")
    run = runner.Run(program, tmp_path / "run", folder, rows,
                     models.pick_experts(models.build(QW)), steps=1).prepare()
    assert "E0321" in run.train(code=3).output
    change_config(folder, tie_word_embeddings=False)
    _, found = verb_logits(program, folder, QW, tmp_path)
    assert torch.equal(found, wanted)


def test_a_tied_flag_over_two_equal_tensors_is_what_it_says(program, model_dir, copy_of, tmp_path):
    shape = models.shape("qw-odd-bias-tied")
    folder = copy_of(model_dir(shape))
    _, wanted = verb_logits(program, folder, shape, tmp_path)
    change_tensors(folder, lambda t: t | {"lm_head.weight":
                                          t["model.embed_tokens.weight"].clone()})
    result, found = verb_logits(program, folder, shape, tmp_path)
    assert torch.equal(found, wanted)
    assert "a head that is tied to the embedding (lm_head.weight)" in result.output
    change_tensors(folder, lambda t: t | {"lm_head.weight": t["lm_head.weight"] + 1e-6})
    result, _ = verb_logits(program, folder, shape, tmp_path, code=3)
    assert "E0321" in result.output


MTP = {"model.layers.3.eh_proj.weight": (8, 16), "model.layers.3.mlp.experts.0.up_proj.weight":
       (4, 8), "model.layers.3.embed_tokens.weight": (160, 64)}
HARMLESS = {
    "prediction": (MTP, "3 tensors of layers for multi-token prediction (model.layers.3.*)"),
    "tower": ({"model.visual.blocks.0.attn.proj.weight": (4, 4), "visual.merger.bias": (4,)},
              "2 tensors of towers for images and sound (model.visual.*, visual.*)"),
    "rotary": ({f"model.layers.{i}.self_attn.rotary_emb.inv_freq": (8,) for i in range(3)},
               "3 tensors of rotary buffers (model.layers.*.self_attn.rotary_emb.inv_freq)"),
    "cache": ({"model.layers.1.self_attn.k_proj.k_scale": (1,)},
              "1 tensor of scales of activations and of the key-value cache"),
    "other heads": ({"v_head.summary.weight": (1, 64)}, "(v_head.*)"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_rightly_unused_is_said_once(program, model_dir, copy_of, tmp_path, case):
    added, words = HARMLESS[case]
    folder = copy_of(model_dir(QW))
    _, wanted = verb_logits(program, folder, QW, tmp_path)
    change_tensors(folder, lambda t: t | {n: torch.randn(s) for n, s in added.items()})
    result, found = verb_logits(program, folder, QW, tmp_path)
    assert torch.equal(found, wanted)
    assert result.output.count("note: ") == 1 and words in result.output


@pytest.mark.parametrize("name,size", [
    (EXPERT + ".g_idx", 64), ("model.layers.1.mlp.experts.16.up_proj.weight", 8),
    ("model.layers.0.self_attn.q_proj.bias", 64), ("model.layers.2.self_attn.sinks", 4),
    ("model.embed_norm.weight", 64), ("model.layers.3.mlp.gate.weight", 8)])
def test_an_unused_tensor_of_a_used_module_stops_the_run(program, model_dir, copy_of, tmp_path,
                                                         name, size):
    folder = copy_of(model_dir(QW))
    change_tensors(folder, lambda t: t | {name: torch.randn(size)})
    result, _ = verb_logits(program, folder, QW, tmp_path, code=3)
    assert "E0353" in result.output and f"`{name}`" in result.output


def test_experts_in_two_forms_are_refused(program, model_dir, copy_of, tmp_path):
    """MXFP4 beside plain stacks, and stacks beside matrices."""
    folder = copy_of(model_dir(GO))
    stacks = "model.layers.1.mlp.experts.down_proj"
    change_tensors(folder, lambda t: t | {
        stacks + "_blocks": torch.zeros(16, 64, 1, 16, dtype=torch.uint8),
        stacks + "_scales": torch.zeros(16, 64, 1, dtype=torch.uint8)})
    result, _ = verb_logits(program, folder, GO, tmp_path, code=3)
    assert "E0353" in result.output and stacks + "_blocks`" in result.output
    folder = tmp_path / "both"
    models.save(models.build(QW), folder)
    change_tensors(folder, lambda t: t | {
        "model.layers.2.mlp.experts.down_proj": torch.zeros(16, 64, 32)})
    result, _ = verb_logits(program, folder, QW, tmp_path, code=3)
    assert "E0353" in result.output and "stored twice" in result.output


@pytest.mark.parametrize("prefix", ["module.", "base_model.model.", "_orig_mod."])
def test_a_prefix_in_all_names_is_named_as_the_cause(program, model_dir, copy_of, tmp_path, prefix):
    folder = copy_of(model_dir(QW))
    change_tensors(folder, lambda t: {prefix + n: v for n, v in t.items()})
    result, _ = verb_logits(program, folder, QW, tmp_path, code=3)
    assert "E0314" in result.output and f"prefix `{prefix}`" in result.output


def test_a_prefix_that_is_missing_is_named_as_the_cause(program, model_dir, copy_of, tmp_path):
    folder = copy_of(model_dir(QW))
    change_tensors(folder, lambda t: {n.removeprefix("model."): v for n, v in t.items()})
    result, _ = verb_logits(program, folder, QW, tmp_path, code=3)
    assert "E0314" in result.output and "lack the prefix `model.`" in result.output
