"""ESFT in plain PyTorch over transformers, as a peer for measurements.

  torch_peer.py build --family deepseek_v2|qwen3_moe --dtype fp32|bf16 --out DIR
  torch_peer.py pick  --model DIR --ids FILE --experts 4 --out CONFIG
  torch_peer.py train --model DIR --ids FILE --config CONFIG --warmup 2 --threads 2

Only the chosen experts are parameters with gradients; the experts of a layer run one after the
other over the rows that were sent to them, which is the fastest of the usual ways on a CPU (a
gradient mask on the fused tensors computes and keeps gradients of all experts). Weights, and in
bf16 also AdamW's state, have the dtype of the checkpoint. `train` prints one JSON line.
"""

import argparse
import json
import os
import resource
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import torch.nn.functional as F
import transformers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def small_config(family):
    """About 180 M parameters: six layers, 64 experts of width 256, six a token."""
    common = dict(vocab_size=32000, hidden_size=512, num_hidden_layers=6, num_attention_heads=8,
                  num_experts_per_tok=6, moe_intermediate_size=256, max_position_embeddings=4096,
                  rms_norm_eps=1e-6, initializer_range=0.02, use_cache=False,
                  tie_word_embeddings=False)
    if family == "deepseek_v2":
        rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "beta_fast": 32.0,
                "beta_slow": 1.0, "mscale": 0.707, "mscale_all_dim": 0.707,
                "original_max_position_embeddings": 1024}
        return transformers.DeepseekV2Config(
            **common, num_key_value_heads=8, intermediate_size=1408, n_routed_experts=64,
            n_shared_experts=2, first_k_dense_replace=1, q_lora_rank=None, kv_lora_rank=128,
            qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64, topk_method="greedy",
            n_group=1, topk_group=1, routed_scaling_factor=1.0, rope_parameters=rope)
    return transformers.Qwen3MoeConfig(
        **common, num_key_value_heads=2, head_dim=64, intermediate_size=2048, num_experts=64,
        norm_topk_prob=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})


def build(args):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(small_config(args.family),
                                                          dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                parameter.mul_(4)  # expert loads as uneven as those of a trained model
    model.to(torch.bfloat16 if args.dtype == "bf16" else torch.float32).save_pretrained(args.out)


def moe_blocks(model):
    return [(i, layer.mlp) for i, layer in enumerate(model.model.layers)
            if hasattr(layer.mlp, "experts")]


def pick(args):
    """The experts with most tokens in every layer, as an expert config; prints their share."""
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype="auto")
    counts = {}
    for layer, block in moe_blocks(model):
        def count(_, inputs, layer=layer):
            counts[layer] = torch.bincount(inputs[1].flatten(), minlength=block.experts.num_experts)
        block.experts.register_forward_pre_hook(count)
    with torch.no_grad():
        model(input_ids=torch.tensor(json.load(open(args.ids))[0]))
    config = {"experts": {str(layer): c.topk(args.experts).indices.tolist()
                          for layer, c in counts.items()},
              "shared_experts": False, "non_expert_modules": False}
    json.dump(config, open(args.out, "w"))
    hit = sum(int(c[config["experts"][str(layer)]].sum()) for layer, c in counts.items())
    total = sum(int(c.sum()) for c in counts.values())
    print(json.dumps({"share": hit / total, "mean_rows": total / sum(map(len, counts.values())),
                      "most_rows": max(int(c.max()) for c in counts.values()),
                      "least_rows": min(int(c.min()) for c in counts.values())}))


class OneByOne(torch.nn.Module):
    """Experts as single matrices; those in `chosen` are parameters, the others are frozen."""

    def __init__(self, fused, chosen):
        super().__init__()
        self.activation = fused.act_fn
        self.weights = []
        for e in range(fused.num_experts):
            pair = [fused.gate_up_proj.data[e].clone(), fused.down_proj.data[e].clone()]
            if e in chosen:
                pair = [torch.nn.Parameter(w) for w in pair]
                self.register_parameter(f"up_{e}", pair[0])
                self.register_parameter(f"down_{e}", pair[1])
            self.weights.append(pair)

    def forward(self, hidden, top_k_index, top_k_weights):
        tokens, k = top_k_index.shape
        order = top_k_index.flatten().argsort(stable=True)
        counts = torch.bincount(top_k_index.flatten(), minlength=len(self.weights)).tolist()
        rows = hidden[order // k].split(counts)
        results = []
        for x, (up, down) in zip(rows, self.weights):
            if x.shape[0] or up.requires_grad:  # a chosen expert without rows: zero gradient
                gate, value = F.linear(x, up).chunk(2, dim=-1)
                results.append(F.linear(self.activation(gate) * value, down))
        weighted = torch.cat(results) * top_k_weights.flatten()[order, None]
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel())
        return weighted[back].view(tokens, k, -1).sum(1).to(hidden.dtype)


def train(args):
    torch.set_num_threads(args.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype="auto").train()
    batches = torch.tensor(json.load(open(args.ids)))
    chosen = json.load(open(args.config))["experts"]
    model.requires_grad_(False)
    for layer, block in moe_blocks(model):
        block.experts = OneByOne(block.experts, set(chosen[str(layer)]))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                  fused=True)
    seconds, losses = [], []
    for ids in batches:
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - start)
    tokens = batches[0].numel()
    print(json.dumps({
        "tokens_per_s": [tokens / s for s in seconds[args.warmup:]], "losses": losses,
        "trained": sum(p.numel() for p in parameters),
        "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["build", "pick", "train"])
    parser.add_argument("--family", choices=["deepseek_v2", "qwen3_moe"])
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--model")
    parser.add_argument("--ids", help="JSON: [steps, rows, tokens]")
    parser.add_argument("--config")
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out")
    args = parser.parse_args()
    {"build": build, "pick": pick, "train": train}[args.command](args)


if __name__ == "__main__":
    main()
