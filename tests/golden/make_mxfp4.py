"""Writes tests/golden/mxfp4/all_values.safetensors: every scale byte with every element, and what
transformers makes of them. Made with transformers 5.23.0 and torch on a CPU; run it again with
    .venv-reference/bin/python tests/golden/make_mxfp4.py
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

nibbles = torch.cat([torch.arange(16), torch.arange(15, -1, -1)]).to(torch.uint8)
group = nibbles[0::2] | nibbles[1::2] << 4
blocks = group.reshape(1, 1, 1, 16).expand(1, 256, 1, 16).contiguous()
scales = torch.arange(256, dtype=torch.uint8).reshape(1, 256, 1)
tensors = {"w_blocks": blocks, "w_scales": scales}
for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
    tensors[name] = convert_moe_packed_tensors(blocks, scales, dtype=dtype)
folder = Path(__file__).parent / "mxfp4"
folder.mkdir(exist_ok=True)
save_file(tensors, folder / "all_values.safetensors",
          {"transformers": transformers.__version__, "torch": torch.__version__})
