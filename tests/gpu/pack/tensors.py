"""Reads safetensors with the standard library."""

import array
import json
import math
import struct

TYPES = {"F32": "f", "F64": "d", "I64": "q"}


class Tensors:

    def __init__(self, path):
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        self.entries = json.loads(data[8:8 + size])
        self.entries.pop("__metadata__", None)
        self.data = data[8 + size:]

    def names(self):
        return list(self.entries)

    def shape(self, name):
        return self.entries[name]["shape"]

    def values(self, name):
        begin, end = self.entries[name]["data_offsets"]
        values = array.array(TYPES[self.entries[name]["dtype"]])
        values.frombytes(self.data[begin:end])
        return values

    def value(self, name):
        return self.values(name)[0]

    def rows(self, name):
        """Of a tensor with two axes, as lists."""
        values, (count, length) = self.values(name), self.shape(name)
        return [list(values[r * length:(r + 1) * length]) for r in range(count)]


def norm(values):
    return math.sqrt(math.fsum(value * value for value in values))


def distance(ours, wanted):
    """By the norm of all elements, as a share of what is wanted."""
    away = norm(a - b for a, b in zip(ours, wanted, strict=True))
    return away / max(norm(wanted), 1e-30)
