"""A reader of partial checkpoints that shares nothing with the program: indices and bytes at their
offsets (checkpoint/FORMAT.md), and manifests with digests that are right."""

import ctypes
import ctypes.util
import json
import math
import struct

from table import NotPossible

SIZES = {1: 8, 2: 4, 3: 2, 4: 2}  # bytes of dtypes by their code
FIRST_KINDS = [("master", 2), ("exp_avg", 2), ("exp_avg_sq", 2)]


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def text(self, size):
        self.at += size
        return self.data[self.at - size:self.at].decode()


def read_index(data):
    """(tensors: name and sizes, kinds: name and dtype, tiles: the fields and where they stand)"""
    cursor = Cursor(data)
    assert cursor.data[:8] == b"SUTORIDX", data[:8]
    cursor.at = 8
    version, num_tensors, num_tiles = cursor.take("IIQ")
    kinds, tensors, tiles = FIRST_KINDS, [], []
    if version >= 3:
        kinds = []
        for _ in range(cursor.take("I")):
            dtype, length = cursor.take("BB")
            kinds.append((cursor.text(length), dtype))
    for _ in range(num_tensors):
        length = cursor.take("H")
        if version < 3:
            cursor.take("B")
        axes = cursor.take("B")
        name = cursor.text(length)
        tensors.append((name, [cursor.take("q") for _ in range(axes)]))
    for _ in range(num_tiles):
        begin = cursor.at
        tensor, kind, row, rows, column, columns, offset, high, low = cursor.take("IIqqqqqQQ")
        size = rows * columns * SIZES[kinds[kind][1]]
        cursor.at += 4 * -(-size // (1 << 20))
        tiles.append({"at": begin, "tensor": tensor, "kind": kind, "row": row, "rows": rows,
                      "column": column, "columns": columns, "offset": offset,
                      "size": SIZES[kinds[kind][1]]})
    assert cursor.at == len(data), "bytes behind the last tile"
    return tensors, kinds, tiles


def logical_tensors(checkpoint):
    """(tensor, kind) -> its bytes, put together from the tiles of all writers."""
    values = {}
    for path in sorted(checkpoint.glob("w*.idx")):
        tensors, kinds, tiles = read_index(path.read_bytes())
        data = path.with_suffix(".h5").read_bytes()
        for tile in tiles:
            name, sizes = tensors[tile["tensor"]]
            kind, size = kinds[tile["kind"]][0], tile["size"]
            width = math.prod(sizes[1:])
            whole = values.setdefault((name, kind), bytearray(math.prod(sizes) * size))
            length = tile["columns"] * size
            for r in range(tile["rows"]):
                to = ((tile["row"] + r) * width + tile["column"]) * size
                at = tile["offset"] + r * length
                whole[to:to + length] = data[at:at + length]
    return {key: bytes(value) for key, value in values.items()}


class Digest128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh3(data):
    name = ctypes.util.find_library("xxhash")
    if name is None:
        raise NotPossible("needs libxxhash")
    function = ctypes.CDLL(name).XXH3_128bits
    function.restype, function.argtypes = Digest128, [ctypes.c_char_p, ctypes.c_size_t]
    digest = function(data, len(data))
    return f"xxh3:{digest.high:016x}{digest.low:016x}"


def read_manifest(path):
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    return manifest


def write_manifest(path, text):
    """A manifest of this JSON text, or object, with the digest that belongs to it."""
    if not isinstance(text, str):
        text = json.dumps(text, indent=1)
    rest = text.lstrip()[1:].lstrip("\n") + "\n"
    path.write_text(f'{{"digest": "{xxh3(rest.encode())}",\n{rest}')
