"""Adapters of peft that compute more than low-rank pairs of lora.targets: refused by name, before
anything trains; what they say in a form that sutor does not read would be lost."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import models
import runner

peft = pytest.importorskip("peft")

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.fixture(scope="module")
def start(model_dir):
    """start(folder, **settings): saves an adapter of the small model with such a configuration."""
    shape = models.shape("qw-gqa")

    def save(folder, **settings):
        config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ATTENTION,
                                    "task_type": "CAUSAL_LM", **settings})
        peft.get_peft_model(models.load(model_dir(shape)), config).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def continued(program, model_dir, tmp_path):
    """continued(adapter): what `train` says that is to go on with it."""
    shape = models.shape("qw-gqa")
    rows = runner.write_rows(models.sample_ids(shape), tmp_path / "rows.jsonl")

    def train(adapter, code=3, **lora):
        run = runner.Run(program, tmp_path / "job", model_dir(shape), rows, steps=1,
                         train={"method": "lora"})
        run.set_section("lora", {"rank": 4, "alpha": 8, "targets": ["attention"],
                                 "init": str(adapter), **lora})
        return run.prepare().train(code=code).output

    return train


# What peft computes beside the pairs of attention -> what the refusal must name.
BEYOND = {
    "modules-to-save": ({"modules_to_save": ["lm_head"]}, "E0308", "modules_to_save"),
    "dora": ({"use_dora": True}, "E0308", "use_dora"),
    "lora-bias": ({"lora_bias": True}, "E0308", "lora_bias"),
    "bias": ({"bias": "lora_only"}, "E0308", "`bias` is \"lora_only\""),
    "fused-experts": ({"target_parameters": ["mlp.experts.down_proj"]}, "E0308",
                      "target_parameters"),
    "tokens": ({"trainable_token_indices": [1, 2]}, "E0308", "trainable_token_indices"),
    "pissa": ({"init_lora_weights": "pissa"}, "E0308", "init_lora_weights"),
    "ranks": ({"rank_pattern": {"q_proj": 2}}, "E0308", "rank_pattern"),
    "alphas": ({"alpha_pattern": {r".*\.0\.self_attn\.v_proj": 2}}, "E0308", "alpha_pattern"),
    "activated": ({"alora_invocation_tokens": [3, 4]}, "E0308", "alora_invocation_tokens"),
    "embedding": ({"target_modules": [*ATTENTION, "embed_tokens"]}, "E0353", "embed_tokens"),
    "head": ({"target_modules": [*ATTENTION, "lm_head"]}, "E0353", "lm_head"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_the_pairs_do_not_say_is_refused_by_name(start, continued, program, tmp_path, name):
    settings, code, word = BEYOND[name]
    adapter = start(tmp_path / "start", **settings)
    output = continued(adapter)
    assert code in output and word in output, output
    if name != "head":  # the pair itself is sound
        verified = program.run("verify", adapter, code=3).output
        assert code in verified and word in verified, verified


def changed(adapter, change):
    tensors = change(load_file(adapter / "adapter_model.safetensors"))
    save_file(tensors, adapter / "adapter_model.safetensors")


FIRST = "base_model.model.model.layers.0.self_attn.q_proj."
# A change of the tensors -> what the refusal must name.
STRANGE = {
    "names-without-the-prefix": (
        lambda t: {k.removeprefix("base_model.model."): v for k, v in t.items()}, "E0353",
        "base_model.model."),
    "names-of-the-state-in-memory": (
        lambda t: {k.replace(".weight", ".default.weight"): v for k, v in t.items()}, "E0353",
        "lora_A.default.weight"),
    "half-a-pair": (lambda t: {k: v for k, v in t.items() if k != FIRST + "lora_B.weight"},
                    "E0308", "lora_B.weight"),
    "magnitudes": (lambda t: {**t, FIRST + "lora_magnitude_vector": torch.ones(4)}, "E0353",
                   "DoRA"),
    "a-whole-weight": (lambda t: {**t, "base_model.model.lm_head.weight": torch.ones(4, 4)},
                       "E0353", "trained whole"),
    "a-module-that-is-not-there": (
        lambda t: {**t, **{k.replace("layers.0", "layers.99"): v.clone() for k, v in t.items()}},
        "E0353", "layers.99"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_tensors_that_are_not_understood_stop_the_run(start, continued, tmp_path, name):
    change, code, word = STRANGE[name]
    adapter = start(tmp_path / "start")
    changed(adapter, change)
    output = continued(adapter)
    assert code in output and word in output, output


def test_pairs_beyond_the_targets_are_not_lost_but_name_the_target(start, continued, tmp_path):
    """An adapter of q and v goes on only where all its pairs do."""
    adapter = start(tmp_path / "start")
    moved = {k.replace("self_attn.q_proj", "mlp.shared_expert.up_proj"): v
             for k, v in load_file(adapter / "adapter_model.safetensors").items()
             if "q_proj" in k}
    changed(adapter, lambda t: {**t, **{k: v.clone() for k, v in moved.items()}})
    output = continued(adapter)
    assert "E0353" in output and "shared_expert.up_proj" in output and "`linears`" in output


@pytest.mark.parametrize("change, word", [
    ({"peft_type": "ADALORA"}, "ADALORA"), ({"use_something_new": {"a": 1}}, "use_something_new"),
    ({"r": 0}, "`r` is 0"), ({"lora_alpha": None}, "`lora_alpha` is missing"),
])
def test_configurations_that_are_not_understood_are_refused(start, continued, tmp_path, change,
                                                            word):
    adapter = start(tmp_path / "start")
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    output = continued(adapter)
    assert "E0308" in output and word in output, output


def test_a_peft_adapter_given_as_one_of_experts_is_called_what_it_is(start, program, model_dir,
                                                                     tmp_path):
    adapter = start(tmp_path / "start")
    output = program.run("merge", "--base", model_dir(models.shape("qw-gqa")), "--adapter", adapter,
                         "--out", tmp_path / "out", code=3).output
    assert "one of peft" in output and "lora.init" in output
