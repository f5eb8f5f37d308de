"""Tiny random models of every family, made by transformers, for comparison with sutor.

A model is described by a Shape: a family, values for its configuration, and how its router is made:
  even      every expert gets some tokens;
  sharp     the busiest expert of every layer gets at least four times the mean, some get none;
  one_rank  all tokens go to the first quarter of the experts.
Norms, biases and routers are random too, so that a wrong load, name or layout shows.
"""

import dataclasses
import json
import os
import pathlib
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

ROWS, TOKENS = 4, 24  # of the sample that routers are shaped on and that most tests use

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "beta_fast": 32.0,
        "beta_slow": 1.0, "mscale": 0.707, "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 16}
YARN_UNEVEN = dict(YARN, factor=4.0, mscale=1.0, mscale_all_dim=0.5)  # cos and sin are scaled too
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str
    family: str
    values: dict
    router: str = "even"
    seed: int = 0

    def with_router(self, router):
        return dataclasses.replace(self, name=f"{self.name}-{router}", router=router)


def experts_of(values):
    return next(values[key] for key in ("n_routed_experts", "num_local_experts", "num_experts")
                if key in values)


def _deepseek(name, seed=0, **values):
    base = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=4, kv_lora_rank=24, q_lora_rank=None, qk_nope_head_dim=16,
                qk_rope_head_dim=8, v_head_dim=12, intermediate_size=96, moe_intermediate_size=32,
                n_routed_experts=16, n_shared_experts=2, num_experts_per_tok=3,
                first_k_dense_replace=1, topk_method="greedy", n_group=1, topk_group=1,
                routed_scaling_factor=1.0, rope_parameters=YARN, tie_word_embeddings=False)
    return Shape(name, "deepseek_v2", base | values, seed=seed)


def _qwen3(name, seed=0, **values):
    base = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=2, head_dim=16, intermediate_size=96, moe_intermediate_size=32,
                num_experts=16, num_experts_per_tok=3, norm_topk_prob=True, decoder_sparse_step=1,
                mlp_only_layers=[], attention_bias=False, rope_parameters=PLAIN,
                tie_word_embeddings=False)
    return Shape(name, "qwen3_moe", base | values, seed=seed)


def _qwen2(name, seed=0, **values):
    base = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=2, intermediate_size=96, moe_intermediate_size=32,
                shared_expert_intermediate_size=48, num_experts=16, num_experts_per_tok=3,
                norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[], qkv_bias=True,
                rope_parameters=PLAIN, tie_word_embeddings=False)
    return Shape(name, "qwen2_moe", base | values, seed=seed)


def _mixtral(name, seed=0, **values):
    base = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=2, intermediate_size=32, num_local_experts=12,
                num_experts_per_tok=2, rope_parameters=dict(PLAIN, rope_theta=1e6),
                sliding_window=None, tie_word_embeddings=False, rms_norm_eps=1e-5)
    return Shape(name, "mixtral", base | values, seed=seed)


def _olmoe(name, seed=0, **values):
    base = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=4, intermediate_size=32, num_experts=16,
                num_experts_per_tok=3, norm_topk_prob=False, attention_bias=False, clip_qkv=None,
                rope_parameters=PLAIN, tie_word_embeddings=False, rms_norm_eps=1e-5)
    return Shape(name, "olmoe", base | values, seed=seed)


YARN_FULL = dict(YARN, mscale=1.0, mscale_all_dim=1.0)


def _deepseek3(name, seed=0, **values):
    base = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=4, kv_lora_rank=24, q_lora_rank=40, qk_nope_head_dim=16,
                qk_rope_head_dim=8, v_head_dim=12, intermediate_size=96, moe_intermediate_size=32,
                n_routed_experts=16, n_shared_experts=1, num_experts_per_tok=3,
                first_k_dense_replace=1, n_group=4, topk_group=2, norm_topk_prob=True,
                routed_scaling_factor=2.5, rope_parameters=YARN_FULL, tie_word_embeddings=False)
    return Shape(name, "deepseek_v3", base | values, seed=seed)


def _glm4(name, seed=0, **values):
    base = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=2, head_dim=16, use_qk_norm=False, attention_bias=True,
                intermediate_size=96, moe_intermediate_size=32, n_routed_experts=16,
                n_shared_experts=1, num_experts_per_tok=3, first_k_dense_replace=1, n_group=1,
                topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.0, rms_norm_eps=1e-5,
                rope_parameters=dict(PLAIN, rope_theta=1e6, partial_rotary_factor=0.5),
                tie_word_embeddings=False)
    return Shape(name, "glm4_moe", base | values, seed=seed)


YARN_WHOLE = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0,
              "beta_slow": 1.0, "truncate": False, "original_max_position_embeddings": 16}


def _gpt_oss(name, seed=0, **values):
    base = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=2, head_dim=16, intermediate_size=32, num_local_experts=16,
                num_experts_per_tok=3, sliding_window=5, attention_bias=True, swiglu_limit=0.4,
                rms_norm_eps=1e-5, rope_parameters=YARN_WHOLE, tie_word_embeddings=False)
    return Shape(name, "gpt_oss", base | values, seed=seed)


SHAPES = [
    _deepseek("ds-lite"),
    _deepseek("ds-qlora-groups", q_lora_rank=40, topk_method="group_limited_greedy",
              n_routed_experts=24, n_group=4, topk_group=2, routed_scaling_factor=2.5,
              rope_parameters=YARN_UNEVEN),
    _deepseek("ds-no-dense-tied", first_k_dense_replace=0, num_hidden_layers=2,
              tie_word_embeddings=True, rope_parameters=PLAIN, n_shared_experts=1),
    _deepseek("ds-odd", hidden_size=72, vocab_size=131, num_attention_heads=3,
              num_key_value_heads=3, kv_lora_rank=20, qk_nope_head_dim=10, qk_rope_head_dim=6,
              v_head_dim=14, intermediate_size=50, moe_intermediate_size=22, n_routed_experts=12,
              num_hidden_layers=4, first_k_dense_replace=2, routed_scaling_factor=2.5,
              rms_norm_eps=1e-5),
    _qwen3("qw-gqa"),
    _qwen3("qw-odd-bias-tied", hidden_size=72, vocab_size=131, num_attention_heads=6,
           num_key_value_heads=2, head_dim=10, moe_intermediate_size=22, num_experts=12,
           norm_topk_prob=False, attention_bias=True, tie_word_embeddings=True, seed=1),
    _qwen3("qw-sparse-step", num_hidden_layers=5, decoder_sparse_step=2, num_experts=24,
           num_key_value_heads=4, head_dim=24, rope_parameters=dict(PLAIN, rope_theta=1e6)),
    _qwen3("qw-mlp-only", num_hidden_layers=4, mlp_only_layers=[0, 2], num_key_value_heads=1,
           norm_topk_prob=False),
    _qwen2("q2-gqa"),
    _qwen2("q2-odd-tied", hidden_size=72, vocab_size=131, num_attention_heads=6,
           moe_intermediate_size=22, shared_expert_intermediate_size=38, num_experts=12,
           norm_topk_prob=True, qkv_bias=False, tie_word_embeddings=True, seed=1),
    _qwen2("q2-sparse-step", num_hidden_layers=5, decoder_sparse_step=2, mlp_only_layers=[3],
           num_key_value_heads=4, rope_parameters=dict(PLAIN, rope_theta=1e6)),
    _qwen2("q2-windows", num_hidden_layers=4, use_sliding_window=True, sliding_window=6,
           max_window_layers=3),
    _qwen3("qw-windows", use_sliding_window=True, sliding_window=7),
    _mixtral("mx-gqa"),
    _mixtral("mx-windows", sliding_window=5, num_local_experts=16),
    _mixtral("mx-odd-head-dim", hidden_size=72, vocab_size=131, num_attention_heads=6, head_dim=10,
             intermediate_size=22, num_local_experts=16, num_experts_per_tok=3, seed=1),
    _mixtral("mx-tied", num_key_value_heads=1, num_hidden_layers=2, tie_word_embeddings=True),
    _olmoe("ol-plain"),
    _olmoe("ol-gqa-clip", num_key_value_heads=2, clip_qkv=0.8, norm_topk_prob=True, seed=1),
    _olmoe("ol-odd-bias-tied", hidden_size=72, vocab_size=131, num_attention_heads=6,
           num_key_value_heads=6, intermediate_size=22, num_experts=12, attention_bias=True,
           clip_qkv=1.5, tie_word_embeddings=True),
    _deepseek3("d3-groups"),
    _deepseek3("d3-kimi", q_lora_rank=40, n_group=1, topk_group=1, routed_scaling_factor=2.827,
               n_shared_experts=2,
               rope_parameters=dict(YARN_FULL, rope_theta=50000.0, factor=32.0, beta_fast=1.0)),
    _deepseek3("d3-odd-half", hidden_size=72, vocab_size=131, num_attention_heads=3,
               num_key_value_heads=3, kv_lora_rank=20, q_lora_rank=None, qk_nope_head_dim=10,
               qk_rope_head_dim=6, v_head_dim=14, intermediate_size=50, moe_intermediate_size=22,
               n_routed_experts=12, n_group=2, topk_group=1, norm_topk_prob=False,
               num_hidden_layers=4, first_k_dense_replace=2, rope_interleave=False,
               attention_bias=True, rope_parameters=PLAIN, seed=1),
    _glm4("g4-air"),
    _glm4("g4-qk-norm-groups", use_qk_norm=True, n_routed_experts=24, n_group=4, topk_group=2,
          routed_scaling_factor=2.5, first_k_dense_replace=2, num_hidden_layers=4),
    _glm4("g4-odd-tied", hidden_size=72, vocab_size=131, num_attention_heads=6, head_dim=24,
          moe_intermediate_size=22, n_routed_experts=12, n_shared_experts=2,
          attention_bias=False, norm_topk_prob=False, first_k_dense_replace=0,
          tie_word_embeddings=True, seed=1,
          rope_parameters=dict(PLAIN, partial_rotary_factor=0.25)),
    _gpt_oss("go-20b"),
    _gpt_oss("go-odd-tied", hidden_size=72, vocab_size=131, num_attention_heads=6, head_dim=10,
             intermediate_size=22, num_local_experts=12, attention_bias=False, swiglu_limit=7.0,
             tie_word_embeddings=True, rope_parameters=PLAIN, seed=1),
    _gpt_oss("go-types", num_hidden_layers=4, num_key_value_heads=1, swiglu_alpha=1.3,
             sliding_window=130, layer_types=["full_attention", "sliding_attention",
                                              "sliding_attention", "full_attention"],
             rope_parameters=dict(YARN_WHOLE, truncate=True, attention_factor=1.2)),
]
# Sharpening needs experts >= 4 x top-k: shapes with twelve experts take top-2 for it.
SHARP_NAMES = ["q2-gqa", "mx-gqa", "ol-gqa-clip", "d3-kimi", "g4-air", "go-20b"]  # all older too
SHARP_SHAPES = [
    dataclasses.replace(s, values=s.values | {
        "num_experts_per_tok": 2 if experts_of(s.values) == 12 else 3}).with_router("sharp")
    for s in SHAPES if s.name in SHARP_NAMES or (
        s.family in ("deepseek_v2", "qwen3_moe") and "windows" not in s.name)
]


def shape(name):
    return next(s for s in SHAPES + SHARP_SHAPES if s.name == name)


def config_of(shape_):
    common = dict(max_position_embeddings=640, rms_norm_eps=1e-6, initializer_range=0.15,
                  use_cache=False, bos_token_id=0, eos_token_id=1, pad_token_id=None,
                  attention_dropout=0.0)
    return transformers.AutoConfig.for_model(shape_.family, **(common | shape_.values))


def sample_ids(shape_, rows=ROWS, tokens=TOKENS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, shape_.values["vocab_size"], (rows, tokens), generator=generator)


def moe_layers(model):
    """(global layer number, MoE block) of every MoE layer."""
    return [(i, layer.mlp) for i, layer in enumerate(model.model.layers)
            if hasattr(layer.mlp, "experts")]


def num_experts(config):
    return next(getattr(config, key) for key in (
        "n_routed_experts", "num_local_experts", "num_experts") if hasattr(config, key))


def router_of(block):
    return block.gate if hasattr(block, "gate") else block.router


def selection_scores(block, logits):
    """What a block's router chooses experts by, fp32, of its logits."""
    bias = getattr(router_of(block), "e_score_correction_bias", None)
    if bias is None:
        return logits.float().softmax(-1)
    return logits.float().sigmoid() + bias


def experts_implementation(config):
    """transformers' default, but where its grouped product refuses rows of odd length."""
    width = getattr(config, "moe_intermediate_size", config.intermediate_size)
    return "grouped_mm" if width % 8 == 0 else "eager"


def build(shape_):
    """The model in fp32, evaluation mode. Raises ValueError when a wanted imbalance is out of
    reach."""
    torch.manual_seed(shape_.seed)
    config = config_of(shape_)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, experts_implementation=experts_implementation(config))
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif name.endswith("bias"):
                parameter.copy_(torch.randn_like(parameter) * 0.05)
            elif name.endswith("sinks"):
                parameter.copy_(torch.randn_like(parameter))
            elif name.endswith(("mlp.gate.weight", "mlp.router.weight")):
                parameter.copy_(torch.randn_like(parameter) * 0.25)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn_like(buffer) * 0.1)
        if shape_.router != "even":
            _shape_routers(model, shape_)
    return model


def to_bf16(model):
    """Correction biases stay fp32, as in released models."""
    biases = {n: b.clone() for n, b in model.named_buffers()
              if n.endswith("e_score_correction_bias")}
    model.to(torch.bfloat16)
    for name, bias in biases.items():
        model.get_submodule(name.rpartition(".")[0]).e_score_correction_bias = bias
    return model


def _shape_routers(model, shape_):
    """Gives all tokens a common direction and pushes router rows along or against it.

    Works upwards, since a layer's input depends on the routers below it.
    """
    embedding = model.model.embed_tokens.weight
    embedding.add_(torch.randn(embedding.shape[1]) * embedding.std())
    ids = sample_ids(shape_)
    experts = num_experts(model.config)
    for layer, block in moe_layers(model):
        seen = []
        hook = router_of(block).register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append(args[0].reshape(-1, args[0].shape[-1])))
        model(input_ids=ids)
        hook.remove()
        mean = seen[0].mean(0)
        along = mean / mean.dot(mean)  # a token's logit moves by its share of the mean input
        push = torch.zeros(experts)
        if shape_.router == "sharp":
            order = torch.randperm(experts, generator=torch.Generator().manual_seed(layer))
            push[order[0]] = 1.0
            push[order[-max(2, experts // 6):]] = -1.0
        else:
            push[experts // 4:] = -1.0
        for _ in range(6):  # as little as it takes, so that the other choices stay mixed
            router_of(block).weight.add_(6.0 * push[:, None] * along[None, :])
            load_ = expert_loads(model, ids)[layer]
            if _is_shaped(shape_, load_):
                break
        else:
            raise ValueError(f"{shape_.name}: layer {layer} could not be shaped: {load_.tolist()}")


def _is_shaped(shape_, load_):
    if shape_.router == "sharp":
        return load_.max() >= 4 * load_.float().mean() and load_.min() == 0
    return load_[len(load_) // 4:].sum() == 0


def record_routers(model, ids, probabilities=None):
    """{layer: (topk_idx int64, topk_weights fp32)}, each [rows, tokens, k], and the logits.

    A dict given as `probabilities` takes the selection scores of every layer, [rows, tokens, experts].
    """
    choices, hooks = {}, []
    for layer, block in moe_layers(model):
        def record(_, __, output, layer=layer, block=block):
            logits, weights, idx = output
            if probabilities is not None:
                probabilities[layer] = selection_scores(block, logits).reshape(*ids.shape, -1)
            choices[layer] = (idx.reshape(*ids.shape, -1).clone(),
                              weights.float().reshape(*ids.shape, -1).clone())
        hooks.append(router_of(block).register_forward_hook(record))
    with torch.no_grad():
        logits = model(input_ids=ids).logits.float()
    for hook in hooks:
        hook.remove()
    return choices, logits


def expert_loads(model, ids):
    """{layer: tokens of each expert}"""
    choices, _ = record_routers(model, ids)
    return {layer: torch.bincount(idx.flatten(), minlength=num_experts(model.config))
            for layer, (idx, _) in choices.items()}


def save(model, directory, max_shard_size="5GB", fused=False):
    """Writes a Hugging Face directory; with `fused`, experts stay 3-D tensors as in memory."""
    directory = pathlib.Path(directory)
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    if fused:
        _fuse_experts(directory)
    for path in directory.iterdir():
        path.chmod(0o644)
    return directory


def _fuse_experts(directory):
    from safetensors.torch import load_file, save_file
    path = directory / "model.safetensors"
    tensors = load_file(path)
    mixtral = any(".block_sparse_moe." in n for n in tensors)
    for name in [n for n in tensors if n.endswith(".block_sparse_moe.gate.weight")]:
        tensors[name.replace("block_sparse_moe", "mlp")] = tensors.pop(name)
    names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    layers = sorted({int(n.split(".")[2]) for n in tensors if ".experts." in n})
    for layer in layers:
        prefix = f"model.layers.{layer}.mlp.experts."
        own = prefix.replace("mlp", "block_sparse_moe") if mixtral else prefix
        count = 1 + max(int(n[len(own):].split(".")[0]) for n in tensors if n.startswith(own))
        parts = {p: torch.stack([tensors.pop(f"{own}{e}.{name}.weight") for e in range(count)])
                 for p, name in zip(("gate", "up", "down"), names)}
        tensors[prefix + "gate_up_proj"] = torch.cat([parts["gate"], parts["up"]], dim=1)
        tensors[prefix + "down_proj"] = parts["down"]
    save_file(tensors, path, metadata={"format": "pt"})


def load(directory, dtype=torch.float32):
    config = transformers.AutoConfig.from_pretrained(directory)
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, experts_implementation=experts_implementation(config)).eval()


def pick_experts(model, per_layer=2, layers=None, idle=False, seed=5):
    """A random expert config over the MoE layers (or those given); `idle` adds an expert without
    tokens in every layer that has one."""
    generator = torch.Generator().manual_seed(seed)
    loads = expert_loads(model, sample_ids_of(model))
    chosen = {}
    for layer, load_ in loads.items():
        if layers is not None and layer not in layers:
            continue
        busy = [e for e in torch.randperm(len(load_), generator=generator).tolist() if load_[e] > 0]
        chosen[str(layer)] = busy[:per_layer]
        if idle and (load_ == 0).any():
            chosen[str(layer)].append(int((load_ == 0).nonzero()[0]))
    return {"experts": chosen, "shared_experts": False, "non_expert_modules": False}


def sample_ids_of(model):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, model.config.vocab_size, (ROWS, TOKENS), generator=generator)


def write_json(value, path):
    pathlib.Path(path).write_text(json.dumps(value))
    return pathlib.Path(path)
