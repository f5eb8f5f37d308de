"""Trains a few steps at true widths and prints tokens a second. ./step starts it."""

import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile

from pack import DEVICE, HERE, NO_GPU, Table, sutor

STEPS, UNCOUNTED = 6, 2  # of the first ones: plans, memory, code that is loaded at first use
WIDE = {
    "vocab_size": 102400, "hidden_size": 2048, "intermediate_size": 10944,
    "num_attention_heads": 16, "num_key_value_heads": 16, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64,
    "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408,
    "first_k_dense_replace": 1, "bos_token_id": 100000, "eos_token_id": 100001
}  # yapf: disable
NARROW = {"n_routed_experts": 64, "num_experts_per_tok": 6, "first_k_dense_replace": 1}
CHOSEN = range(0, 64, 5)  # 13 experts of a layer, a share of 0.2
RECIPE = """\
model: {{path: {folder}/model, dtype: bf16}}
data: {{train: [{{path: {tokens}, format: store}}], seq_len: {length}, loss_on: all}}
esft: {{config: {folder}/experts.json}}
optim: {{lr: 1e-5}}
schedule: {{steps: {steps}}}
train: {{method: {method}, global_batch: {batch}, micro_batch: {batch}, seed: 1}}
checkpoint: {{every: 0, keep: 1}}
eval: {{every: 0, before_training: false}}
log: {{tensorboard: false}}
device: {device}
output: {folder}/{method}
"""


def make_model(folder, layers):
    fields = dict(NARROW if NO_GPU else WIDE, num_hidden_layers=layers)
    done = sutor("init-model", "--family", "deepseek_v2", "--dtype", "bf16", "--out",
                 folder / "model",
                 *(word for item in fields.items() for word in ("--set", "{}={}".format(*item))))
    if done.code != 0:
        sys.exit(f"init-model: {done.text[-2000:]}")
    print(done.text.strip(), flush=True)
    experts = {str(layer): list(CHOSEN) for layer in range(1, layers)}
    (folder / "experts.json").write_text(json.dumps(
        {"experts": experts, "shared_experts": False, "non_expert_modules": False}))


def train(folder, method, batch, table):
    """A row: medians of the steps that count."""
    name = "small" if NO_GPU else "wide"
    recipe = folder / f"{method}.yaml"
    recipe.write_text(RECIPE.format(
        folder=folder, tokens=HERE / "data" / f"{name}.tokens.h5", length=64 if NO_GPU else 4096,
        method=method, batch=batch, steps=STEPS, device=DEVICE))
    done = sutor("train", recipe, "--profile")
    print(f"\n== {method}\n{done.text}", flush=True)
    metrics = folder / method / "metrics.jsonl"
    steps = [json.loads(line) for line in metrics.read_text().splitlines()][UNCOUNTED:] if (
        metrics.exists()) else []
    shutil.rmtree(folder / method, ignore_errors=True)
    # One that ends while it saves its checkpoint has been measured.
    if not steps or done.code not in (0, None):
        table.row(method, DEVICE, *["-"] * 5, f"FAILED: {done.why()}")
        return
    rate = statistics.median(step["tokens_per_s"] for step in steps)
    tokens = steps[-1]["tokens"]
    table.row(method, DEVICE, tokens, f"{1e3 * tokens / rate:.1f}", f"{rate:,.0f}",
              f"{max(step['peak_memory_bytes'] for step in steps) / 2**30:.2f}",
              f"{steps[-1]['loss']:.4f}", f"ok, {len(steps)} steps")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--micro-batch", type=int, default=4, help="documents of 4,096 tokens")
    args = parser.parse_args()
    table = Table("method", "device", "tokens", "ms a step", "tokens/s", "peak GiB", "loss",
                  "result")
    with tempfile.TemporaryDirectory(prefix="sutor-step-") as folder:
        folder = pathlib.Path(folder)
        make_model(folder, args.layers)
        for method in ("esft", "full"):
            train(folder, method, args.micro_batch, table)
    if NO_GPU:
        table.row("esft and full at true widths", "cuda", *["-"] * 5, f"not measured: {NO_GPU}")
    table.show()
    sys.exit(1 if table.any_failed() else 0)


if __name__ == "__main__":
    main()
