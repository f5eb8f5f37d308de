"""Rows held out of a training set: by their content alone, whatever stands around them."""

import json
import pathlib
import random
import subprocess
import sys

import h5py
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SIDES = ("train", "held_out")


def prepare(folder, rows, model, share=0.2):
    """{side: documents as tuples of ids}, and what was printed."""
    folder.mkdir(exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n"
                            for row in rows))
    sources = [{"kind": "train", "path": str(path), "format": "auto", "name": side,
                "out": str(folder / f"{side}.h5"), "share": share, "side": side} for side in SIDES]
    job = {"model": str(model), "tokenizer": "auto", "template": "auto", "loss_on": "assistant",
           "seq_len": 64, "too_long": "drop", "show": 0, "colour": False, "producer": "test",
           "sources": sources}
    done = subprocess.run([sys.executable, "-B", str(ROOT / "tools" / "prepare.py"),
                           json.dumps(job)], capture_output=True, text=True, timeout=120)
    if done.returncode:
        return None, done.stderr
    return {side: documents(folder / f"{side}.h5", side, share) for side in SIDES}, done.stdout


def documents(path, side, share):
    with h5py.File(path) as file:
        ids, bounds = file["ids"][:].tolist(), file["doc_offsets"][:].tolist()
        options = json.loads(file.attrs["options"].decode())
    assert (options["share"], options["side"]) == (share, side)
    return [tuple(ids[a:b]) for a, b in zip(bounds, bounds[1:])]


def rows_of(count, seed=0, **more):
    numbers = random.Random(seed)
    return [{"input_ids": [numbers.randrange(3, 40) for _ in range(12)], **more}
            for _ in range(count)]


def test_every_row_is_on_one_side_and_about_the_share_is_held_out(tmp_path, model):
    folder = model("byte_level")
    rows = rows_of(400)
    sides, text = prepare(tmp_path / "a", rows, folder)
    assert sorted(sides["train"] + sides["held_out"]) == sorted(tuple(row["input_ids"])
                                                                for row in rows)
    assert 50 < len(sides["held_out"]) < 110
    assert f"{len(sides['held_out'])} of the 400 rows are held out (data.eval share 0.2)" in text
    more, _ = prepare(tmp_path / "a", rows, folder, share=0.5)
    assert set(sides["held_out"]) < set(more["held_out"]), "a larger share holds out more rows"


def test_the_side_of_a_row_does_not_depend_on_what_stands_around_it(tmp_path, model):
    folder = model("byte_level")
    rows = rows_of(120)
    before, _ = prepare(tmp_path / "a", rows, folder)
    changed = rows + rows_of(40, seed=1) + rows[::2]
    random.Random(2).shuffle(changed)
    after, _ = prepare(tmp_path / "b", changed, folder)
    for side in SIDES:
        assert set(before[side]) < set(after[side])
    assert not set(after["train"]) & set(after["held_out"]), "equal rows are on one side"


def test_what_only_describes_a_row_does_not_count(tmp_path, model):
    folder = model("byte_level", "chatml")
    talk = [[{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"é {n}"}]
            for n in range(60)]
    plain, _ = prepare(tmp_path / "a", [{"messages": messages} for messages in talk], folder)
    assert plain["train"] and plain["held_out"]
    said = [[{"content": m["content"], "train": True, "name": None, "role": m["role"]}
             for m in each] for each in talk]
    described, _ = prepare(tmp_path / "b", [
        json.dumps({"id": n, "source": "web", "length": n, "messages": messages},
                   ensure_ascii=bool(n % 2)) + "\n" for n, messages in enumerate(said)], folder)
    assert described == plain


def test_all_documents_of_a_conversation_are_on_one_side(tmp_path, model):
    folder = model("byte_level", "thinking_dropped")
    rows = [{"messages": [{"role": "user", "content": f"One {n}?"},
                          {"role": "assistant", "content": "<think>a</think>First."},
                          {"role": "user", "content": "Two?"},
                          {"role": "assistant", "content": "<think>b</think>Second."}]}
            for n in range(40)]
    sides, text = prepare(tmp_path / "a", rows, folder)
    assert "one document an assistant turn" in text
    assert sum(map(len, sides.values())) == 80
    assert all(len(documents) % 2 == 0 for documents in sides.values())
    assert sides["held_out"]


@pytest.mark.parametrize("share, words", [(1e-9, ["none of its 20 rows", "Raise the share"]),
                                          (1 - 1e-9, ["all of its 20 rows", "Lower the share"])])
def test_a_side_without_rows_is_an_error_that_says_so(tmp_path, model, share, words):
    _, text = prepare(tmp_path / "a", rows_of(20), model("byte_level"), share)
    assert "error[E0334]" in text and all(word in text for word in words), text


def test_a_damaged_row_is_named_on_whichever_side_it_falls(tmp_path, model):
    for number in (0, 1):  # one on each side
        _, text = prepare(tmp_path / "a", rows_of(30) + [{"input_ids": [5, -1, number]}],
                          model("byte_level"))
        assert "rows.jsonl:31: error[E0336]" in text
    deep = '{"input_ids": [5], "text": ' + "[" * 400 + "]" * 400 + "}\n"
    sides, text = prepare(tmp_path / "b", rows_of(30) + [deep], model("byte_level"))
    assert sides is not None, text
