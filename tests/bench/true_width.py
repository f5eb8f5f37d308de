#!/usr/bin/env python3
"""All steps at the widths of DeepSeek-V2-Lite, through a base store, each measured by itself.

  python3 tests/bench/true_width.py --tokenizer FILE --rows TRAIN.jsonl --eval-rows EVAL.jsonl
      [--template FILE] [--work DIR] [--sutor build/sutor] [--steps N] [--count N] [--keep]

Random weights: hidden size 2,048, a dense layer and two of 64 experts of width 1,408, a vocabulary
of 102,400, bf16; 1.67 billion parameters, 3.3 GB. The tokenizer must not have more tokens. Needs
12 GB of disk, and 10 GB of memory for an export that is verified.

Prints for every verb the seconds of its own work, its tokens a second, the resident peak of the
process, and the time per part (--profile); then the rate of matrix products that score reached, as
a share of what torch's mm reaches on one core times the number of cores
(build/few_rows_gemm_bench).
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WIDTHS = {
    "vocab_size": 102400, "hidden_size": 2048, "num_hidden_layers": 3, "intermediate_size": 10944,
    "num_attention_heads": 16, "num_key_value_heads": 16, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64,
    "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408,
    "first_k_dense_replace": 1, "bos_token_id": 100000, "eos_token_id": 100001
}  # yapf: disable


class Bench:

    def __init__(self, args, work):
        self.args, self.work = args, work
        self.rows = []

    def run(self, title, *arguments):
        """Runs a verb, adds its figures to the table, shows its profile; returns its output."""
        command = [str(self.args.sutor.resolve()), *map(str, arguments)]
        print(f"$ sutor {' '.join(command[1:])}", flush=True)
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, cwd=self.work, stdout=log, stderr=log,
                                       env=dict(os.environ, NO_COLOR="1"))
            _, status, usage = os.wait4(process.pid, 0)
            log.seek(0)
            output = log.read()
        if os.waitstatus_to_exitcode(status) != 0:
            sys.exit(f"{' '.join(command)} failed:\n{output}")
        if "where the time went" in output:
            print(output[output.index("where the time went"):], flush=True)
        self.rows.append([title, usage.ru_maxrss / 2**20])
        return output

    def note(self, seconds, tokens=None):
        self.rows[-1] += [seconds, tokens]


def forward_flops(widths):
    """Of the matrix products of a token in all layers, without the head."""
    h, heads = widths["hidden_size"], widths["num_attention_heads"]
    rank, rope = widths["kv_lora_rank"], widths["qk_rope_head_dim"]
    nope, v = widths["qk_nope_head_dim"], widths["v_head_dim"]
    attention = (h * heads * (nope + rope) + h * (rank + rope) + rank * heads * (nope + v) +
                 heads * v * h)
    chosen = widths["n_shared_experts"] + widths["num_experts_per_tok"]
    moe = 3 * h * widths["moe_intermediate_size"] * chosen + h * widths["n_routed_experts"]
    dense = widths["first_k_dense_replace"]
    layers = widths["num_hidden_layers"]
    return 2 * (layers * attention + dense * 3 * h * widths["intermediate_size"] +
                (layers - dense) * moe)


def gemm_rate(path):
    """FLOP/s of torch's bf16 mm of a wide matrix on one core; None without the benchmark."""
    if not path.is_file():
        return None
    found = subprocess.run(
        [path, "--benchmark_filter=torch_mm_transposed/rows:384/hidden:2048/width:2816/bf16:1",
         "--benchmark_format=json"], check=True, capture_output=True, text=True).stdout
    return json.loads(found)["benchmarks"][0]["flops"]


def number(pattern, text):
    return float(re.search(pattern, text).group(1).replace(",", ""))


def head_of(source, target, count):
    with source.open() as lines:
        target.write_text("".join(line for _, line in zip(range(count), lines)))


def write_recipe(args, work):
    head_of(args.rows, work / "train.jsonl", 10 * args.count)
    head_of(args.eval_rows, work / "eval.jsonl", args.count)
    (work / "wide.yaml").write_text(f"""\
model: {{path: store, dtype: bf16}}
data:
  train: [{{path: train.jsonl}}]
  eval: [{{path: eval.jsonl, name: task}}]
  seq_len: 1024
  too_long: split
esft: {{score: {{tokens: 32768}}}}
train: {{global_batch: 4, micro_batch: 4, seed: 1}}
optim: {{lr: 1e-4}}
schedule: {{steps: {args.steps}}}
eval: {{every: 0, before_training: false}}
checkpoint: {{every: 0, keep: 1}}
generate: {{max_new_tokens: 32, batch: 16}}
output: run
""")


def measure(bench, args):
    model = ["init-model", "--family", "deepseek_v2", "--dtype", "bf16", "--seed", "1",
             "--out", "model", "--shard-size", "500MB", "--tokenizer", args.tokenizer.resolve()]
    if args.template:
        model += ["--chat-template", args.template.resolve()]
    for key, value in WIDTHS.items():
        model += ["--set", f"{key}={value}"]
    bench.run("init-model", *model)
    bench.note(None)
    output = bench.run("convert", "convert", "--from", "model", "--to", "store")
    bench.note(number(r"\(([\d.]+) s,", output))
    output = bench.run("prepare", "prepare", "wide.yaml")
    bench.note(None)
    eval_tokens = number(r"eval task: .* documents, ([\d,]+) tokens", output)
    output = bench.run("score", "score", "wide.yaml", "--profile")
    seconds = number(r"in ([\d.]+) s:", output)
    tokens = number(r"scored ([\d,]+) tokens", output)
    bench.note(seconds, tokens)
    reached = forward_flops(WIDTHS) * tokens / seconds
    bench.run("select", "select", "wide.yaml")
    bench.note(None)
    bench.run("train", "train", "wide.yaml", "--profile")
    metrics = [json.loads(line) for line in (bench.work / "run/metrics.jsonl").open()]
    tokens = sum(line["tokens"] for line in metrics)
    bench.note(sum(line["tokens"] / line["tokens_per_s"] for line in metrics), tokens)
    output = bench.run("eval", "eval", "wide.yaml", "--profile", "--no-base", "--checkpoint",
                       "latest")  # yapf: disable
    bench.note(number(r"together +([\d.]+)", output) - number(r"load weights +1 +([\d.]+)", output),
               eval_tokens)
    output = bench.run("generate", "generate", "wide.yaml", "--profile", "--checkpoint", "latest",
                       "--prompts", "eval.jsonl", "--out", "completions.jsonl")
    bench.note(number(r"new tokens in ([\d.]+) s", output), number(r"-> ([\d,]+) new", output))
    output = bench.run("export", "export", "wide.yaml", "--checkpoint", "latest", "--verify")
    bench.note(None)
    print("\n".join(line for line in output.splitlines() if line.startswith("verified")))
    return reached


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=pathlib.Path, required=True)
    parser.add_argument("--eval-rows", type=pathlib.Path, required=True)
    parser.add_argument("--template", type=pathlib.Path)
    parser.add_argument("--sutor", type=pathlib.Path, default=ROOT / "build" / "sutor")
    parser.add_argument("--gemm-bench", type=pathlib.Path,
                        default=ROOT / "build" / "few_rows_gemm_bench")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("true_width"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--count", type=int, default=60,
                        help="evaluation rows; ten times as many for training")  # yapf: disable
    parser.add_argument("--keep", action="store_true", help="leave the work folder")
    args = parser.parse_args()
    if args.work.exists():
        sys.exit(f"error: {args.work} exists; give another --work or remove it")
    args.work.mkdir(parents=True)
    write_recipe(args, args.work)
    bench = Bench(args, args.work)
    reached = measure(bench, args)
    print(f"\n{'':<12}{'seconds':>9}{'tokens':>10}{'tokens/s':>10}{'peak RSS, GiB':>15}")
    for title, rss, seconds, tokens in bench.rows:
        cells = ["" if seconds is None else f"{seconds:.1f}",
                 "" if tokens is None else f"{tokens:,.0f}",
                 "" if tokens is None else f"{tokens / seconds:,.1f}"]
        print(f"{title:<12}{cells[0]:>9}{cells[1]:>10}{cells[2]:>10}{rss:>15.2f}")
    rate, cores = gemm_rate(args.gemm_bench), os.cpu_count()
    print(f"score: {reached / 1e9:.0f} GFLOP/s in matrix products" +
          ("" if rate is None else f", {reached / (rate * cores):.0%} of {cores} cores x "
           f"{rate / 1e9:.0f} GFLOP/s"))  # yapf: disable
    if not args.keep:
        shutil.rmtree(args.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
