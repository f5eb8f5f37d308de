"""Makes tests/golden/checkpoint: what a training of one expert leaves after three steps, as sutor
wrote it before manifests named their optimizer. python3 make_checkpoint.py SUTOR, with a program
of that time; a later one would write the key `optimizer`, which these files must not have."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "models" / "deepseek_v2_grouped"
STEP = "step-00000003"
RECIPE = """\
model: {{path: {model}, dtype: fp32}}
data:
  train: [{{path: rows.jsonl, name: rows}}]
  packing: false
  loss_on: all
  seq_len: 32
esft: {{config: expert_config.json}}
optim: {{lr: 1e-2}}
schedule: {{name: constant, steps: 3}}
train: {{global_batch: 4, micro_batch: 1, threads: 1}}
checkpoint: {{every: 0}}
eval: {{every: 0, before_training: false}}
log: {{tensorboard: false}}
output: run
"""


def main() -> None:
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        rows = [[(7 * r + 3 * t) % 48 for t in range(12)] for r in range(4)]
        (work / "rows.jsonl").write_text(
            "".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
        (work / "expert_config.json").write_text(json.dumps(
            {"experts": {"1": [2]}, "shared_experts": False, "non_expert_modules": False}))
        (work / "recipe.yaml").write_text(RECIPE.format(model=MODEL))
        for verb in ("prepare", "train"):
            subprocess.run([program, verb, "recipe.yaml"], cwd=work, check=True)
        shutil.rmtree(HERE / STEP, ignore_errors=True)
        shutil.copytree(work / "run" / "checkpoints" / STEP, HERE / STEP)
    assert "optimizer" not in json.loads((HERE / STEP / "MANIFEST.json").read_text())


if __name__ == "__main__":
    main()
