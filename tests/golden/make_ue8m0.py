#!/usr/bin/env python3
"""Writes tests/golden/ue8m0: FP8 matrices whose scales are powers of two, as bytes and as fp32,
what transformers takes them apart to, and what it makes of changed values.
Made with transformers 5.23.0, torch 2.11.0:
    .venv-reference/bin/python tests/golden/make_ue8m0.py
"""

import json
import pathlib
import types

import torch
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

BLOCK = (8, 16)


def main():
    config = {"quant_method": "fp8", "weight_block_size": list(BLOCK), "scale_fmt": "ue8m0"}
    settings = types.SimpleNamespace(weight_block_size=list(BLOCK), scale_fmt="ue8m0")
    quantizer = types.SimpleNamespace(quantization_config=settings)
    stored, meant, again = {}, {}, {}
    generator = torch.Generator().manual_seed(0)
    for name, dtype in (("m.bytes", torch.float8_e8m0fnu), ("m.floats", torch.float32)):
        for tensors in (stored, again):
            weight = torch.randn(24, 48, generator=generator)
            weight[:8, :16] = 0
            weight[8:16, :16] *= 1e-6
            weight[9, 20] = 448.0  # the scale is a power of two as it is
            matrix = name + ".weight"
            parts = Fp8Quantize(quantizer)._quantize_one(matrix, weight)
            scales = parts[matrix + "_scale_inv"]
            tensors[matrix] = parts[matrix]
            tensors[matrix + "_scale_inv"] = scales.to(torch.float32).to(dtype)
            if tensors is again:
                tensors["trained." + matrix] = weight
            else:
                meant[matrix] = Fp8Dequantize(quantizer)._dequantize_one(
                    parts[matrix], scales, torch.float32)
    folder = pathlib.Path(__file__).resolve().parent / "ue8m0"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(
        {"dtype": "bfloat16", "quantization_config": config}, indent=1) + "\n")
    for file, tensors in (("model", stored), ("meant", meant), ("again", again)):
        save_file({n: t.contiguous() for n, t in tensors.items()},
                  folder / f"{file}.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
