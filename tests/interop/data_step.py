"""Runs tools/prepare.py alone on rows, and reads the token store that it writes."""

import itertools
import json
import pathlib
import subprocess
import sys
import types
from collections import Counter

import h5py

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))


def run(folder, rows, model, kind="train", timeout=120, **job):
    """Runs prepare.py on `rows` (objects, or the bytes of a file); never fails by itself."""
    path = folder / "rows.jsonl"
    if isinstance(rows, bytes):
        path.write_bytes(rows)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                        encoding="utf-8")
    source = {"kind": kind, "path": str(path), "format": job.pop("format", "auto"), "name": "rows",
              "out": str(folder / "tokens" / "rows.tokens.h5")}
    job = {"model": str(model), "tokenizer": "auto", "template": "auto", "loss_on": "assistant",
           "seq_len": 64, "too_long": "drop", "show": 0, "colour": False, "producer": "test",
           "sources": [source], **job}
    process = subprocess.run([sys.executable, "-B", str(ROOT / "tools" / "prepare.py"),
                              json.dumps(job)], capture_output=True, text=True, timeout=timeout)
    return types.SimpleNamespace(code=process.returncode, output=process.stdout + process.stderr,
                                 store=pathlib.Path(source["out"]))


def documents(result):
    """[(ids, mask), ...] of the store of a run that went well."""
    assert result.code == 0, result.output
    with h5py.File(result.store) as file:
        ids, mask = file["ids"][:].tolist(), file["loss_mask"][:].tolist()
        bounds = file["doc_offsets"][:].tolist()
    return [(ids[a:b], mask[a:b]) for a, b in zip(bounds, bounds[1:])]


def trained(model, messages, tools=None, loss_on="assistant", thinking=True):
    """The documents of one row of messages, as texts with what is in the loss in [ ]; made in this
    process by the parts of prepare.py."""
    from sutor_prepare.encode import Encoder, ModelTokenizer
    from sutor_prepare.masks import MaskMaker
    from sutor_prepare.spans import parts_of_spans
    from sutor_prepare.templates import find_template
    from sutor_rows.normalize import Normalizer
    from sutor_rows.row_forms import RowForms

    tokenizer = ModelTokenizer("auto", str(model))
    template = find_template("auto", tokenizer.folders, tokenizer.special_tokens)
    masks = MaskMaker(template, tokenizer, loss_on, thinking)
    where = "rows.jsonl:1"
    forms, normalizer = RowForms("messages"), Normalizer(template.of(tools), Counter())
    row = forms.of({"messages": messages, "tools": tools}, where)
    made = normalizer.messages(row.messages)
    for message, given in zip(made, messages):  # a test may say itself what is to be trained
        message |= {key: given[key] for key in ("_train", "_train_thinking") if key in given}
    samples = masks.samples(made, normalizer.tools(row.tools), where)
    encoded = Encoder(tokenizer).encode([parts_of_spans(*sample) for sample in samples])
    texts = []
    for ids, mask in encoded:
        text = ""
        for flag, run_of_tokens in itertools.groupby(zip(ids, mask), key=lambda pair: pair[1]):
            part = tokenizer.tokenizer.decode([token for token, _ in run_of_tokens],
                                              skip_special_tokens=False)
            text += f"[{part}]" if flag else part
        texts.append(text)
    return types.SimpleNamespace(texts=texts, ends=dict(masks.turn_ends.trained),
                                 without_end=masks.turn_ends.without)
