"""Files of rows: JSON lines, JSON, CSV and Parquet, compressed or not, one or many; all give the
documents of the same JSON lines, and damage is named with file and row."""

import csv
import gzip
import io
import json
import os

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

import models
import runner
from row_sets import CHATML, Prepared, lines

PAIRS = [{"prompt": f'Question "{i}",\nplease: ü', "completion": f" It is {i}; 好"}
         for i in range(600)]
TOOL = {"type": "function", "function": {"name": "clock", "parameters": {
    "type": "object", "properties": {"zone": {"type": "string"}}}}}
TALKS = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": f"b{i}"}]}
         for i in range(3)]
# Of these, Arrow gives each struct the keys of the others, as null.
TALKS[1]["messages"][1]["tool_calls"] = [
    {"type": "function", "function": {"name": "clock", "arguments": {"zone": "x"}}}]
TALKS[2]["messages"][1]["tool_calls"] = [
    {"type": "function", "function": {"name": "clock", "arguments": {"hour": 3}}}]
TALKS[2]["tools"] = [TOOL]


def table(rows, separator=","):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer, row_group_size=100)
    return buffer.getvalue()


def parquet_without_rows():
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(PAIRS[:1]).slice(1), buffer)
    return buffer.getvalue()


def zstd(data, frames=3):
    step = len(data) // frames + 1
    pack = zstandard.ZstdCompressor().compress
    return b"".join(pack(data[at:at + step]) for at in range(0, len(data), step))


FILES = {
    "rows.jsonl": lines(PAIRS),
    "bom.jsonl": b"\xef\xbb\xbf\n\n" + lines(PAIRS).replace(b"\n", b"\r\n"),
    "list.json": json.dumps(PAIRS).encode(),
    "indented.json": json.dumps(PAIRS, indent=2, ensure_ascii=False).encode(),
    "data.json": json.dumps({"version": 1, "data": PAIRS}).encode(),
    "data_first.json": json.dumps({"data": PAIRS, "info": {"data": [1]}}).encode(),
    "lines.json": lines(PAIRS),
    "one_after_the_other.json": "".join(json.dumps(row, indent=1) for row in PAIRS).encode(),
    "table.csv": table(PAIRS),
    "tabs.tsv": table(PAIRS, "\t"),
    "semicolons.csv": table(PAIRS, ";"),
    "table.parquet": parquet(PAIRS),
    "parquet_without_name": parquet(PAIRS),
    "rows.jsonl.gz": gzip.compress(lines(PAIRS[:9])) + gzip.compress(lines(PAIRS[9:])),
    "rows.jsonl.zst": zstd(lines(PAIRS)),
    "packed_without_name.jsonl": gzip.compress(lines(PAIRS)),
    "list.json.zst": zstd(json.dumps(PAIRS).encode()),
    "table.csv.gz": gzip.compress(table(PAIRS)),
    "table.parquet.zst": zstd(parquet(PAIRS)),
}
DAMAGED_FILES = {
    "short.jsonl.gz": (gzip.compress(lines(PAIRS))[:-30], "E0331", "end early"),
    "short.jsonl.zst": (zstd(lines(PAIRS), 1)[:-30], "E0331", "end early"),
    "flipped.jsonl.gz": (bytearray(gzip.compress(lines(PAIRS))), "E0331", "damaged"),
    "torn.json": (json.dumps(PAIRS).encode()[:-200], "E0336", "row 5"),
    "no_comma.json": (b'[{"text": "a"} {"text": "b"}]', "E0336", "row 1"),
    "torn.parquet": (parquet(PAIRS)[:-30], "E0331", "Parquet"),
    "open_quote.csv": (b'prompt,completion\na,b\n"c,d\n', "E0336", "row 2"),
    "twice.csv": (b"text,text\na,b\n", "E0336", "twice.csv:1"),
    "empty.parquet": (parquet_without_rows(), "E0334", "holds no rows"),
}
DAMAGED_FILES["flipped.jsonl.gz"][0][60] ^= 255


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    import small_tokenizers
    folder = tmp_path_factory.mktemp("model")
    small_tokenizers.save(small_tokenizers.byte_level(), folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, chat_model):
    folder = tmp_path_factory.mktemp("files")
    sets = {}
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
        sets[name] = {"path": str(folder / name)}
    (folder / "parts").mkdir()
    parts = [folder / "parts" / name for name in ("a.jsonl", "b.csv", "c.json.gz")]
    for part, content in zip(parts, (lines(PAIRS[:200]), table(PAIRS[200:400]),
                                     gzip.compress(json.dumps(PAIRS[400:]).encode()))):
        part.write_bytes(content)
    sets["folder"] = {"path": str(folder / "parts"), "files": list(map(str, parts))}
    (folder / "talks.parquet").write_bytes(parquet([{"tools": None, **row} for row in TALKS]))
    sets["talks"] = TALKS
    sets["talks.parquet"] = {"path": str(folder / "talks.parquet")}
    # Lists and objects as the text of cells.
    (folder / "cells.csv").write_bytes(table(
        [{"messages": json.dumps(row["messages"]), "tools": json.dumps(row.get("tools", []))}
         for row in TALKS]).replace(b",[]\r", b",\r"))
    sets["cells.csv"] = {"path": str(folder / "cells.csv")}
    bad = [table(PAIRS[:3]), b"only one cell\r\n", b"caf\xe9,x\r\n", table(PAIRS[3:5])[19:]]
    (folder / "bad.csv").write_bytes(b"".join(bad))
    sets["bad.csv"] = {"path": str(folder / "bad.csv")}
    return Prepared(folder / "out", chat_model, sets)


@pytest.mark.parametrize("name", [*list(FILES)[1:], "folder"])
def test_rows_are_those_of_json_lines_whatever_the_file(prepared, name):
    assert prepared.documents(name) == prepared.documents("rows.jsonl")
    assert len(prepared.documents(name)) == 600


@pytest.mark.parametrize("name", ["talks.parquet", "cells.csv"])
def test_conversations_in_tables_are_those_of_json_lines(prepared, name):
    assert prepared.texts(name) == prepared.texts("talks")
    assert "zone=x;" in prepared.texts(name)[1] and "None" not in prepared.texts(name)[2]


def test_rows_of_a_table_are_named_by_their_number(prepared):
    found = prepared.left_out("bad.csv")
    assert list(found) == [4, 5] and [code for code, _ in found.values()] == ["E0336", "E0337"]
    assert "bad.csv: row 4: error[E0336]: expected 2 cells, got 1" in prepared.output
    assert len(prepared.documents("bad.csv")) == 5


@pytest.mark.parametrize("name", DAMAGED_FILES)
def test_file_that_cannot_be_read_to_its_end_is_an_error(tmp_path, chat_model, name):
    content, code, words = DAMAGED_FILES[name]
    (tmp_path / name).write_bytes(content)
    done = Prepared(tmp_path / "out", chat_model, {"rows": {"path": str(tmp_path / name)}})
    assert done.code == 3 and f"error[{code}]" in done.output, done.output
    assert words in done.output and name in done.output and "Traceback" not in done.output
    assert not (tmp_path / "out" / "tokens" / "rows.tokens.h5").exists()


def test_a_changed_added_or_missing_file_of_a_set_is_seen(program, model_dir, tmp_path):
    """By `score`, which compares as `run`, `train` and `eval` do."""
    shape = models.shape("ds-lite")
    ids = models.sample_ids(shape)
    (tmp_path / "data").mkdir()
    for i in range(2):
        runner.write_rows(ids[i:i + 1], tmp_path / "data" / f"part-{i}.jsonl")
    (tmp_path / "data" / "README.md").write_text("not rows")
    run = runner.Run(program, tmp_path, model_dir(shape), tmp_path / "data" / "part-0.jsonl")
    other = runner.write_rows(ids[2:3], tmp_path / "other.jsonl")

    def score(path, code):
        return program.run("score", run.recipe, "--set", f"data.train=[{{path: {path}}}]",
                           "--set", "esft.score.tokens=8", code=code).output

    for path, name in ((tmp_path / "data", "data"), (tmp_path / "data" / "part-*.jsonl", "part")):
        program.run("prepare", run.recipe, "--set", f"data.train=[{{path: {path}}}]")
        assert (run.output / "tokens" / f"{name}.tokens.h5").exists()
        score(path, 0)
        added = tmp_path / "data" / "part-2.jsonl"
        added.write_bytes(other.read_bytes())
        assert "rows of " + name in score(path, 2)
        added.unlink()
        score(path, 0)
        changed = tmp_path / "data" / "part-1.jsonl"
        content = changed.read_bytes()
        changed.write_bytes(other.read_bytes())
        assert "rows of " + name in score(path, 2)
        changed.unlink()
        assert "rows of " + name in score(path, 2)
        changed.write_bytes(content)
        os.replace(changed, tmp_path / "data" / "part-1b.jsonl")
        assert "rows of " + name in score(path, 2)
        os.replace(tmp_path / "data" / "part-1b.jsonl", changed)
    result = program.run("prepare", run.recipe, "--set", f"data.train=[{{path: {tmp_path}/no*}}]",
                         code=3)
    assert "E0331" in result.output and "no*" in result.output
