"""Score files and adapters' folders as other tools leave them, through the command line."""

import json

import pytest
import torch
from safetensors.torch import save_file

import models
import runner

CONFIG = {"experts": {"1": [2], "2": [0, 3]}, "shared_experts": False, "non_expert_modules": False}
BESIDE = {"training_args.bin": b"pickle", "trainer_state.json": b"{}", "optimizer.pt": b"state",
          "scheduler.pt": b"state", "rng_state.pth": b"state", "tokenizer_config.json": b"{}"}


@pytest.fixture
def base(model_dir):
    return model_dir(models.shape("ds-lite"))


@pytest.fixture
def trained(base):
    """The tensors that the authors' train.py would have left: the chosen experts, changed."""
    chosen = [f".layers.{layer}.mlp.experts.{e}." for layer, ids in CONFIG["experts"].items()
              for e in ids]
    return {name: value * 1.5 for name, value in runner.read_tensors(base).items()
            if any(part in name for part in chosen)}


def trainer_folder(folder, base, tensors, config=CONFIG):
    """As Trainer.save_model leaves it, with the expert config put beside."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    for name, content in BESIDE.items():
        (folder / name).write_bytes(content)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors",
              {"format": "pt"})
    if config:
        (folder / "expert_cfg.json").write_text(json.dumps(config))
    return folder


def merge(program, base, adapter, out, code=0):
    return program.run("merge", "--base", base, "--adapter", adapter, "--out", out, "--verify",
                       code=code).output


def test_a_trainers_folder_is_one_thing_for_every_verb(program, base, trained, tmp_path):
    folder = trainer_folder(tmp_path / "last_checkpoint", base, trained)
    inspected = program.run("inspect", folder).output
    assert inspected.startswith("adapter: ") and "config.json beside it" in inspected
    verified = program.run("verify", folder).output
    assert verified.startswith("ok adapter ") and f"{len(trained)} tensors" in verified
    for name in BESIDE:  # said, but nothing wrong
        assert name in inspected and name in verified
    merge(program, base, folder, tmp_path / "merged")
    merged, before = runner.read_tensors(tmp_path / "merged"), runner.read_tensors(base)
    for name, value in merged.items():
        assert value.equal(trained.get(name, before[name])), name
    assert not (tmp_path / "merged" / "training_args.bin").exists()
    differs = program.run("diff", folder, tmp_path / "merged", code=None).output
    assert "E0352" not in differs


def test_a_trainers_folder_in_shards_needs_all_of_them(program, base, trained, tmp_path):
    folder = trainer_folder(tmp_path / "last", base, trained)
    (folder / "model.safetensors").unlink()
    names = sorted(trained)
    parts = {"model-00001-of-00002.safetensors": names[:4],
             "model-00002-of-00002.safetensors": names[4:]}
    for file, part in parts.items():
        save_file({n: trained[n].contiguous() for n in part}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps(
        {"metadata": {}, "weight_map": {n: f for f, part in parts.items() for n in part}}))
    assert program.run("verify", folder).output.startswith("ok adapter")
    (folder / "model-00002-of-00002.safetensors").unlink()
    for verb in ("inspect", "verify"):
        assert "E0304" in program.run(verb, folder, code=3).output
    assert "model-00002-of-00002" in merge(program, base, folder, tmp_path / "out", code=3)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "base_model.model."])
def test_a_wrappers_prefix_is_named_as_the_cause(program, base, trained, tmp_path, wrapper):
    folder = trainer_folder(tmp_path / "last", base,
                            {wrapper + name: value for name, value in trained.items()})
    for output in (program.run("verify", folder, code=3).output,
                   merge(program, base, folder, tmp_path / "out", code=3)):
        assert "E0353" in output and f"`{wrapper}`" in output, output


def test_tensors_that_no_module_has_stop_merge_and_verify(program, base, trained, tmp_path):
    name = next(iter(trained))
    for i, extra in enumerate([name.replace("weight", "weight_scale"),
                               name.replace(".experts.2.", ".experts.200."),
                               "model.layers.1.mlp.experts.gate_up_proj"]):
        folder = trainer_folder(tmp_path / f"a{i}", base, {**trained, extra: torch.ones(2, 2)})
        for output in (program.run("verify", folder, code=3).output,
                       merge(program, base, folder, tmp_path / "out", code=3)):
            assert "E0353" in output and extra in output, output
    folder = trainer_folder(tmp_path / "shape", base, {**trained, name: torch.ones(2, 2)})
    assert "E0302" in program.run("verify", folder, code=3).output


def test_a_whole_model_beside_an_expert_config_stays_a_model(program, base, tmp_path):
    folder = trainer_folder(tmp_path / "whole", base, runner.read_tensors(base))
    assert program.run("inspect", folder).output.startswith("model directory")
    assert program.run("verify", folder).output.startswith("ok model directory")


def test_what_is_missing_of_a_trainers_folder_is_said(program, base, trained, tmp_path):
    folder = trainer_folder(tmp_path / "run" / "checkpoint-100", base, trained, config=None)
    assert "expert_cfg.json" in merge(program, base, folder, tmp_path / "out", code=3)
    for verb in ("inspect", "verify"):
        assert "checkpoint-100" in program.run(verb, tmp_path / "run", code=3).output


def summary(path, layers, experts=8):
    """Token and gate scores of layers; those that are None have only zeros."""
    values = {str(k): {str(e): v[e % len(v)] * len(v) / experts if v else 0.0
                       for e in range(experts)} for k, v in layers.items()}
    path.write_text(json.dumps({"token_scores": values, "gate_scores": values}))
    return path


def select(program, scores, out, *options, code=0):
    return program.run("select", "--scores", scores, "--out", out, *options, code=code).output


def test_layers_of_zeros_are_left_out_unless_the_model_routes_there(program, base, tmp_path):
    experts = json.loads((base / "config.json").read_text())["n_routed_experts"]
    some, out = [0.4, 0.3, 0.2, 0.1], tmp_path / "config.json"
    scores = summary(tmp_path / "s.json", {0: None, 1: some, 2: some, 3: None}, experts)
    for options in ((), ("--model", base)):  # 0 is dense, 3 beyond the model
        output = select(program, scores, out, *options)
        assert "W0304" in output and "layer 0, 3" in output
        assert sorted(json.loads(out.read_text())["experts"]) == ["1", "2"]
    scores = summary(tmp_path / "t.json", {0: None, 1: some, 2: None}, experts)
    assert "W0304" in select(program, scores, out)
    output = select(program, scores, out, "--model", base, code=3)
    assert "E0327" in output and "layer 2 has only zeros" in output


def test_the_models_scale_gives_gate_scores_of_scaled_records(program, model_dir, tmp_path):
    """Of a router that does not renormalise, whose weights only its config can explain."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = json.loads((model_dir(models.shape("ds-lite")) / "config.json").read_text())
    k = config["num_experts_per_tok"]
    config.update(routed_scaling_factor=2.0, norm_topk_prob=False)
    (folder / "config.json").write_text(json.dumps(config))
    ids, weights = list(range(k)) * 2, [1.9, *[0.05] * (k - 1), *[0.3] * k]
    for layer in (1, 2):
        (tmp_path / f"expert_weights_{layer}.txt").write_text(
            "\t".join(map(str, ids)) + "\t\t" + "\t".join(map(str, weights)) + "\n")
    out = tmp_path / "out.json"
    assert "E0327" in select(program, tmp_path, out, "--method", "gate", code=3)
    output = select(program, tmp_path, out, "--method", "gate", "--model", folder)
    assert "W0303" in output and "divided by 2.0000" in output
    assert json.loads(out.read_text())["experts"]["1"] == [0]
    assert "W0303" not in select(program, tmp_path, out, "--method", "token")
