"""Writes models/<name>/: tiny models for the C++ unit tests with what transformers 5.23.0 computes.

  python tests/golden/make_goldens.py      (needs torch, transformers and safetensors)

Each folder is a Hugging Face directory (config.json and safetensors) and expected.safetensors:
  ids               int64 [rows, tokens]
  logits            fp32 [rows, tokens, vocab]
  loss              fp32 [1]: mean over the next tokens of all rows (labels = ids)
  loss_bf16         fp32 [1]: the same with the model in bf16
  router.<layer>.topk_idx      int64 [rows, tokens, k]; order within k means nothing
  router.<layer>.topk_weights  fp32 [rows, tokens, k], as multiplied with the expert outputs
  grad.<name>       fp32: gradient of the loss for every tensor by its name on disk, experts apart
  train.losses, train.grad_norms   fp64 [3]: three AdamW steps on `ids` with only the experts of
                    expert_config.json trained (lr 1e-3, betas 0.9 0.95, eps 1e-8, weight decay 0.1,
                    clip 1; norms before the clip)
  train.after.<name>               fp32: the trained tensors after the three steps
"""

import json
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import models
import reference
import torch
from safetensors.torch import save_file

DEEPSEEK = dict(vocab_size=48, hidden_size=16, num_attention_heads=2, num_key_value_heads=2,
                kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5,
                intermediate_size=24, moe_intermediate_size=8, n_routed_experts=8,
                num_experts_per_tok=2, initializer_range=0.35)
QWEN3 = dict(vocab_size=48, hidden_size=16, num_attention_heads=4, num_key_value_heads=2,
             head_dim=6, intermediate_size=24, moe_intermediate_size=8, num_experts=8,
             num_experts_per_tok=2, initializer_range=0.35, mlp_only_layers=[],
             rope_parameters=models.PLAIN)
COMMON = dict(vocab_size=48, hidden_size=16, num_attention_heads=4, num_key_value_heads=2,
              intermediate_size=24, num_experts_per_tok=2, initializer_range=0.35,
              rope_parameters=models.PLAIN, tie_word_embeddings=False)
SHAPES = [
    models.Shape("deepseek_v2_lite", "deepseek_v2", DEEPSEEK | dict(
        num_hidden_layers=3, q_lora_rank=None, n_shared_experts=2, first_k_dense_replace=1,
        topk_method="greedy", n_group=1, topk_group=1, routed_scaling_factor=1.0,
        rope_parameters=models.YARN, tie_word_embeddings=False)),
    models.Shape("deepseek_v2_grouped", "deepseek_v2", DEEPSEEK | dict(
        num_hidden_layers=2, q_lora_rank=12, n_shared_experts=1, first_k_dense_replace=0,
        topk_method="group_limited_greedy", n_group=4, topk_group=2, routed_scaling_factor=2.5,
        rope_parameters=models.PLAIN, tie_word_embeddings=True), router="sharp"),
    models.Shape("qwen3_moe_gqa", "qwen3_moe", QWEN3 | dict(
        num_hidden_layers=2, norm_topk_prob=True, decoder_sparse_step=1, attention_bias=False,
        tie_word_embeddings=False)),
    models.Shape("qwen3_moe_sparse", "qwen3_moe", QWEN3 | dict(
        num_hidden_layers=4, norm_topk_prob=False, decoder_sparse_step=2, attention_bias=True,
        num_key_value_heads=4, tie_word_embeddings=True), router="sharp"),
    models.Shape("qwen2_moe_gated", "qwen2_moe", COMMON | dict(
        num_hidden_layers=2, num_experts=8, moe_intermediate_size=8, norm_topk_prob=False,
        shared_expert_intermediate_size=12, mlp_only_layers=[0], decoder_sparse_step=1,
        qkv_bias=True)),
    models.Shape("mixtral_gqa", "mixtral", COMMON | dict(
        num_hidden_layers=2, num_local_experts=8, intermediate_size=8, head_dim=6)),
    models.Shape("olmoe_clipped", "olmoe", COMMON | dict(
        num_hidden_layers=2, num_experts=8, intermediate_size=8, clip_qkv=1.0,
        norm_topk_prob=True, attention_bias=False)),
    models.Shape("deepseek_v3_grouped", "deepseek_v3", DEEPSEEK | dict(
        num_hidden_layers=2, q_lora_rank=12, n_shared_experts=1, first_k_dense_replace=1,
        n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5,
        rope_parameters=models.YARN_FULL, tie_word_embeddings=False)),
    models.Shape("glm4_moe_partial", "glm4_moe", COMMON | dict(
        num_hidden_layers=2, n_routed_experts=8, moe_intermediate_size=8, head_dim=8,
        use_qk_norm=True, attention_bias=True, n_shared_experts=1, first_k_dense_replace=1,
        n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.5,
        rope_parameters=dict(models.PLAIN, partial_rotary_factor=0.5))),
    models.Shape("gpt_oss_sinks", "gpt_oss", COMMON | dict(
        num_hidden_layers=2, num_local_experts=8, intermediate_size=8, head_dim=6,
        sliding_window=7, swiglu_limit=0.5, rope_parameters=models.YARN_WHOLE)),
]
FORM = {  # how the folder is written: the forms that a reader of released models meets
    "deepseek_v2_lite": dict(version=4),
    "deepseek_v2_grouped": dict(max_shard_size=20_000),
    "qwen3_moe_gqa": dict(version=4),
    "qwen3_moe_sparse": dict(fused=True),
    "qwen2_moe_gated": dict(version=4),
    "mixtral_gqa": dict(version=4),
    "olmoe_clipped": dict(fused=True),
    "deepseek_v3_grouped": dict(version=4),
    "glm4_moe_partial": dict(version=4),
    "gpt_oss_sinks": dict(version=4),
}


def to_version_4(path):
    """Rewrites a config.json as transformers 4 wrote it: rope_theta, rope_scaling, torch_dtype."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind} | rope
    config["torch_dtype"] = config.pop("dtype")
    if "num_local_experts" in config and config["model_type"] not in (
            "mixtral", "gpt_oss"):
        config["num_experts"] = config.pop("num_local_experts")
    config["transformers_version"] = "4.46.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make(shape):
    directory = HERE / "models" / shape.name
    shutil.rmtree(directory, ignore_errors=True)
    form = dict(FORM[shape.name])
    version = form.pop("version", 5)
    model = models.build(shape)
    models.save(model, directory, **form)
    if version == 4:
        to_version_4(directory / "config.json")

    ids = models.sample_ids(shape)
    routers, logits = models.record_routers(model, ids)
    _, reread = models.record_routers(models.load(directory), ids)
    assert torch.equal(logits, reread), f"{shape.name}: the folder is not the model"
    expected = {"ids": ids, "logits": logits}
    for layer, (idx, weights) in routers.items():
        expected[f"router.{layer}.topk_idx"] = idx
        expected[f"router.{layer}.topk_weights"] = weights
    loss, gradients = reference.gradients(model, ids, reference.all_names(model))
    expected["loss"] = torch.tensor([loss])
    expected |= {f"grad.{name}": gradient for name, gradient in gradients.items()}
    with torch.no_grad():
        half = models.load(directory, torch.bfloat16)
        expected["loss_bf16"] = reference.loss_of(half, ids).float().reshape(1)

    config = models.pick_experts(model, idle=True)
    (directory / "expert_config.json").write_text(json.dumps(config))
    result = reference.train(model, reference.trained_names(model, config), [ids] * 3)
    for key in ("losses", "grad_norms"):
        expected[f"train.{key}"] = torch.tensor(result[key], dtype=torch.float64)
    expected |= {f"train.after.{name}": value for name, value in result["values"].items()}
    save_file({name: value.contiguous() for name, value in expected.items()},
              directory / "expected.safetensors")
    (directory / "expected.safetensors").chmod(0o644)
    size = sum(f.stat().st_size for f in directory.iterdir())
    loads = {layer: load.tolist() for layer, load in models.expert_loads(model, ids).items()}
    print(f"{shape.name}: loss {loss:.6f}, steps {result['losses']}, {size} bytes, loads {loads}, "
          f"trained {config['experts']}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for golden in SHAPES:  # all, or those that are named
        if golden.name in (sys.argv[1:] or FORM):
            make(golden)
