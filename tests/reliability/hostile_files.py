"""T18-T21: files that someone made up: refused by name, soon, in little memory, and nothing
outside them is opened."""

import json
import re
import resource
import shutil
import struct
import subprocess

from calls import shim
from table import NotPossible, row
from tiles import read_index, read_manifest, write_manifest, xxh3

MEMORY = 8 << 30  # of addresses: libtorch alone maps several GB
FAST_SECONDS = 20


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def refused(lab, *words, codes=(3,), naming="", env=None):
    """What is wrong with how the program refuses: one of the codes, an error, in time."""
    done = lab.sutor(*words, timeout=FAST_SECONDS, pre=limited, env=env)
    text = done.err + done.out
    if done.code not in codes:
        return f"{words[0]}: {done} {done.out[-160:]}"
    if not re.search(r"\bE\d{4}\b", text):
        return f"{words[0]}: no error is named: {text[-200:]}"
    if "Traceback" in text or "E7" in " ".join(done.errors()):
        return f"{words[0]}: {done}"
    return "" if naming in text else f"{words[0]} does not name {naming}: {text[-300:]}"


def manifest_cases(manifest):
    """Name and text of manifests that lie, each with a right digest."""
    def changed(change):
        copy = json.loads(json.dumps(manifest))
        change(copy)
        return json.dumps(copy, indent=1)

    def of_file(**values):
        return changed(lambda m: m["files"][0].update(values))

    plain = json.dumps(manifest, indent=1)
    return {
        "version 2": changed(lambda m: m.update(format_version=2)),
        "version -1": changed(lambda m: m.update(format_version=-1)),
        "another format": changed(lambda m: m.update(format="sutor.base_store")),
        "step of another": changed(lambda m: m.update(step=m["step"] + 1)),
        "no files": changed(lambda m: m.update(files=[])),
        "files is a number": changed(lambda m: m.update(files=7)),
        "../x": of_file(name="../w0000.h5"), "absolute": of_file(name="/etc/hostname"),
        "index ../x": of_file(index="../../x"), "no such file": of_file(name="w0099.h5"),
        "negative bytes": of_file(bytes=-1), "2^63": of_file(bytes=2**63),
        "2^62 tiles": of_file(tiles=2**62), "fractions": of_file(bytes=1.5),
        "writer 2^40": of_file(writer=2**40), "writer -1": of_file(writer=-1),
        "twice": changed(lambda m: m["files"].append(dict(m["files"][0]))),
        "tensors 10^9": changed(lambda m: m.update(tensors=10**9)),
        "no state": changed(lambda m: m.pop("state")),
        "state ../x": changed(lambda m: m["state"].update(name="../state.h5")),
        "digest of no kind": of_file(index_digest="xxh3:zz"),
        "NaN": plain.replace(f'"step": {manifest["step"]}', '"step": NaN'),
        "a key twice": plain.replace('"step":', '"step": 1, "step":', 1),
        "deep": plain.replace('"layout":', '"deep": ' + "[" * 10**6 + "]" * 10**6 + ', "layout":'),
        "no JSON": "{" + '"x": ', "a list": "{[]"}


def index_cases(data):
    """Name and bytes of indices that lie."""
    tensors, kinds, tiles = read_index(data)

    def put(tile, field, value, form="q"):
        fields = ("tensor", "kind", "row", "rows", "column", "columns", "offset")
        at = tile["at"] + {"tensor": 0, "kind": 4}.get(field, 8 * fields.index(field) - 8)
        return data[:at] + struct.pack("<" + form, value) + data[at + struct.calcsize(form):]

    first, last = tiles[0], tiles[-1]
    counts = struct.unpack_from("<IQ", data, 12)
    return {
        "negative row": put(first, "row", -1), "row beyond": put(first, "row", 10**6),
        "2^62 rows": put(first, "rows", 2**62), "no rows": put(first, "rows", 0),
        "negative column": put(last, "column", -8), "2^62 columns": put(last, "columns", 2**62),
        "negative offset": put(first, "offset", -1), "offset beyond": put(last, "offset", 2**62),
        "overlap": put(last, "offset", first["offset"]),
        "tensor 10^9": put(first, "tensor", 10**9, "I"), "kind 99": put(first, "kind", 99, "I"),
        "tile twice": put(last, "row", last["row"] + 1),
        "2^32 - 1 tensors": data[:12] + struct.pack("<IQ", 2**32 - 1, counts[1]) + data[24:],
        "2^62 tiles": data[:12] + struct.pack("<IQ", counts[0], 2**62) + data[24:],
        "version 9": data[:8] + struct.pack("<I", 9) + data[12:], "bytes behind": data + b"\0",
        "another magic": b"SUTORSTX" + data[8:]}


@row("T18", "manifests and indices that lie, with right digests: refused, passed over")
def lying_records(lab, count):
    how = {"steps": 2, "keep": 3}
    right, job = lab.reference(1, **how), lab.job(**how)
    lab.must("train", job.recipe)
    manifest = read_manifest(job.step(2) / "MANIFEST.json")
    index = (job.step(2) / "w0000.idx").read_bytes()
    cases = [("MANIFEST.json", *case) for case in manifest_cases(manifest).items()]
    cases += [("w0000.idx", *case) for case in index_cases(index).items()]
    if lab.options.short:
        cases = cases[::6]

    def problem_of(case):
        name, title, content = case
        attacked = lab.copy(job)
        path = attacked.step(2) / "MANIFEST.json"
        if name == "MANIFEST.json":
            write_manifest(path, content)
        else:
            (attacked.step(2) / name).write_bytes(content)
            changed = json.loads(json.dumps(manifest))
            changed["files"][0].update(index_bytes=len(content), index_digest=xxh3(content))
            write_manifest(path, changed)
        problem = refused(lab, "verify", attacked.checkpoints)
        if not problem:
            done = lab.sutor("train", attacked.recipe, "--resume", pre=limited)
            # One that another version wrote may be whole: it is not passed over.
            newer = done.code == 3 and "version" in title + done.err and done.errors()
            problem = "" if newer else str(done) if done.code else lab.difference(attacked, right)
        shutil.rmtree(attacked.recipe.parent)
        return problem and f"{name}, {title}: {problem}"

    for case in cases:
        count.state(f"{case[0]}, {case[1]}", problem_of(case))


@row("T19", "HDF5 with links, filters, external and virtual data: nothing outside is opened")
def hostile_hdf5(lab, count):
    h5py = need_h5py()
    outside = lab.folder / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["ids"] = list(range(3, 20))
    job = lab.job(steps=1)
    store = next((job.run / "tokens").glob("*rows*.h5"))
    for title, change in hdf5_cases(h5py, outside).items():
        attacked = lab.copy(job)
        path = attacked.run / "tokens" / store.name
        with h5py.File(path, "r+") as file:
            length = file["ids"].shape[0]
            del file["ids"]
            change(file, length)
        env = shim(lab, f"open:{outside}:1:kill;open:/etc/hostname:1:kill")
        for words in (("inspect", path), ("train", attacked.recipe)):
            count.state(f"{title}, {words[0]}", refused(lab, *words, env=env))


def hdf5_cases(h5py, outside):
    def virtual(file, length):
        layout = h5py.VirtualLayout(shape=(length,), dtype="<i4")
        layout[:17] = h5py.VirtualSource(str(outside), "ids", shape=(17,))
        file.create_virtual_dataset("ids", layout)

    def chunked(file, length):
        file.create_dataset("ids", data=[3] * length, dtype="<i4", compression="gzip")

    def huge(file, length):
        space = h5py.h5s.create_simple((2**50,))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1 << 20,))
        h5py.h5d.create(file.id, b"ids", h5py.h5t.STD_I32LE, space, plist)

    return {
        "external link": lambda f, n: f.__setitem__(
            "ids", h5py.ExternalLink(str(outside), "/ids")),
        "soft link loop": lambda f, n: f.__setitem__("ids", h5py.SoftLink("/ids")),
        "dangling link": lambda f, n: f.__setitem__("ids", h5py.SoftLink("/nowhere")),
        "external storage": lambda f, n: f.create_dataset(
            "ids", (n,), "<i4", external=[("/etc/hostname", 0, 4 * n)]),
        "virtual": virtual, "gzip": chunked, "2^50": huge,
        "floats": lambda f, n: f.create_dataset("ids", data=[3.0] * n, dtype="<f4"),
        "big endian": lambda f, n: f.create_dataset("ids", data=[3] * n, dtype=">i4"),
        "strings": lambda f, n: f.create_dataset("ids", data=["a"] * n,
                                                 dtype=h5py.string_dtype()),
        "compound": lambda f, n: f.create_dataset("ids", (n,), [("a", "<i4"), ("b", "<i4")]),
        "a group": lambda f, n: f.create_group("ids"),
        "no data": lambda f, n: f.create_dataset("ids", dtype=h5py.Empty("<i4").dtype, shape=(0,))}


def need_h5py():
    try:
        import h5py
        return h5py
    except ImportError:
        raise NotPossible("needs h5py: .venv/bin/python") from None


@row("T20", "HDF5_PLUGIN_PATH and a filter that asks for a plugin: it is not loaded")
def plugins(lab, count):
    h5py = need_h5py()
    if shutil.which("gcc") is None:
        raise NotPossible("needs gcc")
    folder, marker = lab.folder / "plugins", lab.folder / "plugin-was-loaded"
    folder.mkdir()
    source = folder / "plugin.c"
    source.write_text(f'#include <fcntl.h>\n__attribute__((constructor)) static void mark(void) '
                      f'{{ open("{marker}", O_CREAT | O_WRONLY, 0600); }}\n')
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libplugin.so", source], check=True)
    job = lab.job(steps=1)
    path = next((job.run / "tokens").glob("*rows*.h5"))
    with h5py.File(path, "r+") as file:
        length = file["ids"].shape[0]
        del file["ids"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((length,))
        plist.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())
        h5py.h5d.create(file.id, b"ids", h5py.h5t.STD_I32LE,
                        h5py.h5s.create_simple((length,)), plist)
    env = {"HDF5_PLUGIN_PATH": str(folder)}
    for words in (("inspect", path), ("train", job.recipe), ("verify", path)):
        problem = refused(lab, *words, env=env)
        count.state(words[0], "the plugin was loaded" if marker.exists() else problem)


def header(entries, data=bytes(64)):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(2, 4), offsets=(0, 32)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


SAFETENSORS = {  # name -> (file, whether it is legal)
    "two tensors": (header({"a": tensor(), "b": tensor(offsets=(32, 64))}), True),
    "an empty tensor, a scalar": (header({"a": tensor(shape=(0, 4), offsets=(0, 0)), "b": tensor(
        shape=(), offsets=(0, 4))}, bytes(4)), True),
    "metadata": (header({"__metadata__": {"format": "pt"}, "a": tensor()}, bytes(32)), True),
    "nothing": (b"", False), "eight bytes": (bytes(8), False),
    "header longer than the file": (struct.pack("<Q", 10**6) + b"{}", False),
    "header of 2^63": (struct.pack("<Q", 2**63) + b"{}", False),
    "header of 200 MB": (struct.pack("<Q", 2 * 10**8) + b"{" + b" " * 1000, False),
    "no brace": (header(b' {"a": 1}'), False), "a list": (header(b"[]"), False),
    "bad UTF-8": (header(b'{"\xff\xfe": {}}'), False),
    "a name twice": (header(b'{"a": %s, "a": %s}' % ((json.dumps(tensor()).encode(),) * 2),
                            bytes(32)), False),
    "overlap": (header({"a": tensor(), "b": tensor(offsets=(16, 48))}, bytes(48)), False),
    "hole": (header({"a": tensor(), "b": tensor(offsets=(40, 72))}, bytes(72)), False),
    "reversed": (header({"a": tensor(offsets=(32, 0))}, bytes(32)), False),
    "negative": (header({"a": tensor(offsets=(-32, 0))}, bytes(32)), False),
    "fractions": (header({"a": tensor(offsets=(0.0, 32.5))}, bytes(32)), False),
    "shape overflows": (header({"a": tensor(shape=(2**33, 2**33))}, bytes(32)), False),
    "negative shape": (header({"a": tensor(shape=(-2, -4))}, bytes(32)), False),
    "other size than shape": (header({"a": tensor(shape=(3, 4))}, bytes(32)), False),
    "odd dtype": (header({"a": tensor(dtype="F31")}, bytes(32)), False),
    "bytes behind": (header({"a": tensor()}, bytes(33)), False),
    "cut": (header({"a": tensor()}, bytes(31)), False),
    "deep": (header(b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}"), False),
    "metadata of numbers": (header({"__metadata__": {"x": 1}, "a": tensor()}, bytes(32)), False),
    "a tensor that is a number": (header({"a": 7}), False)}


@row("T21", "safetensors: exactly the legal ones are taken")
def hostile_safetensors(lab, count):
    def problem_of(title):
        data, legal = SAFETENSORS[title]
        folder = lab.folder / f"safetensors {title}"
        folder.mkdir()
        shutil.copy(lab.folder / "model" / "config.json", folder)
        (folder / "model.safetensors").write_bytes(data)
        if legal:
            done = lab.sutor("verify", folder)  # it may ask for the model's own tensors
            broken = re.search("E0303|safetensors header", done.err + done.out)
            return f"{title}: {done} {done.out[-200:]}" if broken or done.code not in (0, 3) else ""
        problem = refused(lab, "verify", folder, naming="model.safetensors")
        return problem and f"{title}: {problem}"

    titles = list(SAFETENSORS)
    count.each(lab, titles[::5] if lab.options.short else titles, problem_of)
