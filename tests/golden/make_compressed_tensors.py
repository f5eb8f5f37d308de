#!/usr/bin/env python3
"""Writes tests/golden/compressed_tensors: matrices in every form of compressed-tensors that sutor
reads, what the library takes them apart to, and what it makes of changed values.
Made with compressed-tensors 0.20.0, torch 2.11.0:
    .venv-reference/bin/python tests/golden/make_compressed_tensors.py
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))
from compressed import FORMS, put, quantise  # noqa: E402

ROWS, COLUMNS = 20, 64  # of most; channels also where no word and no block is full
ODD = {"w4-channel-zero-points": (22, 30), "int8-zero-points": (21, 13), "fp8-block": (22, 30)}


def values(name, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(*ODD.get(name, (ROWS, COLUMNS)), generator=generator) / 16
    weight[5] *= 40  # rows of other sizes
    weight[7] = weight[7].abs()
    if "zero-points" not in name and name != "mxfp8":
        weight[3] = 0  # the library has no meaning for zeros in the other forms
    return weight


def main():
    stored, meant, again, groups = {}, {}, {}, {}
    for i, (name, form) in enumerate(FORMS.items()):
        matrix = f"m.{name}.weight"
        parts, meant[matrix] = quantise(values(name, 2 * i), form)
        stored |= put(matrix, parts)
        meant[matrix] = meant[matrix].float()
        changed = values(name, 2 * i + 1)
        again["trained." + matrix] = changed
        again |= put(matrix, quantise(changed, form)[0])
        groups[name] = form.group | {"targets": [f"m.{name}"]}
    folder = HERE / "compressed_tensors"
    folder.mkdir(exist_ok=True)
    config = {"dtype": "bfloat16", "quantization_config": {
        "quant_method": "compressed-tensors", "format": "mixed-precision", "ignore": ["lm_head"],
        "config_groups": groups}}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for file, tensors in (("model", stored), ("meant", meant), ("again", again)):
        save_file({n: t.contiguous() for n, t in tensors.items()},
                  folder / f"{file}.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
