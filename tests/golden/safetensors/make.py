"""Writes order.safetensors with the Python library (safetensors 0.8.0, torch 2.11.0).

Its bytes are what sutor's writer has to produce for the same tensors.
"""
from pathlib import Path

import torch
from safetensors.torch import save_file

save_file(
    {
        "b": torch.tensor([7]),
        "a": torch.tensor([1.0, 2.0]),
        "c": torch.tensor(3.0, dtype=torch.bfloat16),
        "e": torch.zeros(0, 4),
    },
    Path(__file__).parent / "order.safetensors",
    metadata={"format": "pt"},
)
