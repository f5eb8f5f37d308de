"""Models as llm-compressor stores them: quantised and taken apart by compressed-tensors itself."""

import dataclasses
import re

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import (pack_to_int32,
                                                                   unpack_from_int32)
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams

LINEAR = re.compile(r".*\.(self_attn\..*_proj|mlp\..*(gate|up|down)_proj)\.weight")
EXPERT = re.compile(r".*\.mlp\.experts\.\d+\.(gate|up|down)_proj\.weight")


@dataclasses.dataclass(frozen=True)
class Form:
    """`weights`: as in a config group. `column_order`: columns belong to groups in any order
    (`actorder: group`), of which releases before 0.18 of the library wrote the groups as g_idx."""
    format: str
    weights: dict
    scales: torch.dtype = torch.bfloat16
    column_order: bool = False

    @property
    def scheme(self):
        return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**self.weights))

    @property
    def group(self):
        order = {"actorder": "group"} if self.column_order else {}
        return {"targets": ["Linear"], "format": self.format, "weights": self.weights | order,
                "input_activations": None, "output_activations": None}


def extremes(weight, args):
    """Smallest and largest value of what shares a scale."""
    if args.strategy == "tensor":
        return weight.min().reshape(1), weight.max().reshape(1)
    if args.strategy == "channel":
        return weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    if args.strategy == "group":
        groups = weight.unflatten(-1, (-1, args.group_size))
        return groups.amin(-1), groups.amax(-1)
    rows, cols = args.block_structure
    padded = torch.nn.functional.pad(
        weight, (0, -weight.shape[1] % cols, 0, -weight.shape[0] % rows))
    blocks = padded.unflatten(0, (-1, rows)).unflatten(2, (-1, cols))
    return blocks.amin((1, 3)), blocks.amax((1, 3))


def order_of(columns, group):
    generator = torch.Generator().manual_seed(columns)
    return torch.randperm(columns, generator=generator).div(group, rounding_mode="floor").int()


def quantise(weight, form):
    """({name behind the module: stored tensor}, what the library takes it apart to)"""
    scheme, weight = form.scheme, weight.float()
    args = scheme.weights
    if form.column_order:
        groups = order_of(weight.shape[1], args.group_size)
        there = groups.argsort(stable=True)
        weight = weight[:, there]
    scale, zero_point = calculate_qparams(*extremes(weight, args), args)
    if "scale_dtype" not in form.weights:
        scale = scale.to(form.scales)
    compressor = BaseCompressor.get_value_from_registry(form.format)
    stored = compressor.compress(
        {"weight": weight, "weight_scale": scale, "weight_zero_point": zero_point}, scheme)
    meant = compressor.decompress(stored, scheme)["weight"]
    if form.column_order:
        back = there.argsort()
        meant = meant[:, back].contiguous()
        codes = unpack_from_int32(stored["weight_packed"], args.num_bits, weight.shape)
        stored["weight_packed"] = pack_to_int32(codes[:, back].contiguous(), args.num_bits)
        stored["weight_g_idx"] = groups
    return stored, meant


def put(name, parts):
    """The parts of a matrix under their names in a checkpoint."""
    return {name.removesuffix("weight") + part: tensor for part, tensor in parts.items()}


def compress_model(tensors, forms):
    """`forms`: {pattern of names: Form}. (stored tensors, what they stand for, the config)"""
    stored, meant, ignored = {}, {}, ["lm_head", "re:.*mlp[.]gate$"]
    for name, tensor in tensors.items():
        form = next((f for pattern, f in forms.items() if pattern.fullmatch(name)), None)
        if form is None:
            stored[name] = meant[name] = tensor
            continue
        parts, meant[name] = quantise(tensor, form)
        stored |= put(name, parts)
    groups = {}
    for i, (pattern, form) in enumerate(forms.items()):
        groups[f"group_{i}"] = form.group
        if len(forms) > 1:
            groups[f"group_{i}"]["targets"] = ["re:" + pattern.pattern.removesuffix(r"\.weight")]
    format = next(iter(forms.values())).format if len(forms) == 1 else "mixed-precision"
    return stored, meant, {"quant_method": "compressed-tensors", "format": format,
                           "quantization_status": "compressed", "ignore": ignored,
                           "kv_cache_scheme": None, "config_groups": groups}


def _fp8(**values):
    return dict(num_bits=8, type="float", symmetric=True, dynamic=False) | values


def _int(bits, **values):
    return dict(num_bits=bits, type="int", symmetric=True, dynamic=False) | values


_GROUP = dict(strategy="group", group_size=16)
FORMS = {
    "fp8-tensor": Form("float-quantized", _fp8(strategy="tensor"), torch.float32),
    "fp8-channel": Form("float-quantized", _fp8(strategy="channel")),
    "fp8-channel-half": Form("naive-quantized", _fp8(strategy="channel"), torch.float16),
    "fp8-block": Form("float-quantized", _fp8(strategy="block", block_structure=[20, 24])),
    "mxfp8": Form("mxfp8-quantized", _fp8(strategy="group", group_size=32,
                                          scale_dtype="torch.uint8")),
    "int8-channel": Form("int-quantized", _int(8, strategy="channel"), torch.float32),
    "int8-zero-points": Form("int-quantized", _int(8, strategy="channel", symmetric=False)),
    "w8-channel": Form("pack-quantized", _int(8, strategy="channel")),
    "w4-group": Form("pack-quantized", _int(4, **_GROUP)),
    "w4-zero-points": Form("pack-quantized", _int(4, **_GROUP, symmetric=False)),
    "w4-channel-zero-points": Form("pack-quantized",
                                   _int(4, strategy="channel", symmetric=False), torch.float16),
    "w8-zero-points": Form("pack-quantized", _int(8, **_GROUP, symmetric=False)),
    "w2-zero-points": Form("pack-quantized", _int(2, **_GROUP, symmetric=False)),
    "w4-order": Form("pack-quantized", _int(4, **_GROUP), column_order=True),
    "w4-order-zero-points": Form("pack-quantized", _int(4, **_GROUP, symmetric=False),
                                 torch.float32, column_order=True),
}
