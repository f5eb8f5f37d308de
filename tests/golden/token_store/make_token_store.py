"""Writes tiny.tokens.h5 as tools other than sutor would: with h5py, text attributes of variable
length, ids as uint32. Run: python make_token_store.py (needs h5py and numpy)."""

import json
import pathlib

import h5py
import numpy as np

documents = [[5, 6, 7, 8], [9, 10], [11, 300, 12]]
masks = [[0, 0, 1, 1], [0, 0], [0, 1, 1]]

ids = np.array(sum(documents, []), dtype="<u4")
mask = np.array(sum(masks, []), dtype="u1")
offsets = np.cumsum([0] + [len(d) for d in documents], dtype="<i8")
position = np.arange(1, len(ids) + 1, dtype=np.uint64)
checksum = (position * (2 * ids.astype(np.uint64) + mask + 1)).sum(dtype=np.uint64)
bound = np.arange(len(ids) + 1, len(ids) + 1 + len(offsets), dtype=np.uint64)
checksum += (bound * offsets.astype(np.uint64)).sum(dtype=np.uint64)

target = pathlib.Path(__file__).with_name("tiny.tokens.h5")
with h5py.File(target, "w", libver=("v110", "v110")) as file:
    for name, values in (("ids", ids), ("loss_mask", mask), ("doc_offsets", offsets)):
        file.create_dataset(name, data=values, track_times=False)
    file.attrs.update(
        format="sutor.token_store",
        format_version=1,
        producer="make_token_store.py",
        tokenizer_digest="sha256:00",
        template_digest="",
        source_name="rows.jsonl",
        source_digest="sha256:11",
        source_bytes=123,
        rows=4,
        documents=len(documents),
        tokens=len(ids),
        supervised_tokens=int(mask.sum()),
        vocab_size=512,
        bos_id=5,
        eos_id=-1,
        max_id=int(ids.max()),
        options=json.dumps({"loss_on": "assistant", "format": "messages"}),
        counts=json.dumps({"dropped": 1}),
        checksum=checksum,
    )
