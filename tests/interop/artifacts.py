"""What the tests write and read on disk: models, base stores, checkpoints, adapters."""

import hashlib
import json
import struct

import h5py
import numpy as np
import torch

import models
import runner


def tree(folder):
    """{relative path: sha256} of every file below a folder."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def bytes_of(folder):
    """{name: (dtype, shape, bytes)} of a folder's safetensors, read without any library."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        start = 8 + struct.unpack("<Q", data[:8])[0]
        for name, item in json.loads(data[8:start]).items():
            if name != "__metadata__":
                begin, end = item["data_offsets"]
                found[name] = item["dtype"], item["shape"], data[start + begin:start + end]
    return found


def directory_of(folder, config, tensors):
    """A model directory of these tensors, in one file."""
    from safetensors.torch import save_file
    folder.mkdir()
    models.write_json(config, folder / "config.json")
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    return folder


def load_checked(folder, dtype=torch.float32):
    """The model as transformers loads it; nothing missing, unexpected or of another shape."""
    import transformers
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, output_loading_info=True,
        experts_implementation=models.experts_implementation(
            transformers.AutoConfig.from_pretrained(folder)))
    assert not any(info.values()), info
    return model.eval()


def convert(program, source, to, *arguments, **options):
    return program.run("convert", "--from", source, "--to", to, *arguments, timeout=60, **options)


def assembled(pieces):
    """The whole tensor of pieces by (first row, first column), in rectangles without gap."""
    if all(column == 0 for _, column in pieces):
        return np.concatenate([pieces[place] for place in sorted(pieces)])
    rows = max(row + piece.shape[0] for (row, _), piece in pieces.items())
    columns = max(column + piece.shape[1] for (_, column), piece in pieces.items())
    whole = np.full((rows, columns), np.nan, np.float32)
    for (row, column), piece in pieces.items():
        whole[row:row + piece.shape[0], column:column + piece.shape[1]] = piece
    return whole


def checkpoint_tiles(folder):
    """{(name, kind): whole tensor} of the tiles `/<name>/<kind>/<first row>[,<first column>]`."""
    tiles = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path, "r") as file:
            def visit(where, item, file=file):
                parts = where.split("/")
                if isinstance(item, h5py.Dataset) and len(parts) == 3:
                    row, _, column = parts[2].partition(",")
                    place = int(row), int(column or 0)
                    tiles.setdefault((parts[0], parts[1]), {})[place] = item[()]
            file.visititems(visit)
    return {key: assembled(pieces) for key, pieces in tiles.items()}


def adapter_of(run):
    """The tensors of an adapter of the newest checkpoint."""
    run.program.run("export", run.recipe, "--checkpoint", run.checkpoints()[-1], "--format",
                    "adapter")
    return runner.read_tensors(run.output / "export" / "adapter")
