"""100,000 rows with fifty kinds of damage: each is named with file and line, the rest are used."""

import json

import pytest

from row_sets import Prepared, lines

ROWS = 100_000
EACH = 20  # rows of each kind
U, A = {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}
DEEP = json.loads("[" * 150 + "]" * 150)
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'judge' %}{{ raise_exception('no judges') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def row(user=U, answer=A, **more):
    return json.dumps({"messages": [user, answer], **more}).encode()


def call(call):
    return row(answer={"role": "assistant", "tool_calls": [call]})


# Kind -> (line, words of its message).
DAMAGE = {
    "no JSON": (b"{oops", "not a JSON object"),
    "torn": (row()[:-9], "not a JSON object"),
    "two on a line": (row() + row(), "Extra data"),
    "single quotes": (b"{'messages': []}", "not a JSON object"),
    "a list": (b"[1, 2]", "expected a JSON object, got a list"),
    "a number": (b"17", "expected a JSON object, got a number"),
    "text": (b'"row"', "expected a JSON object, got text"),
    "null": (b"null", "expected a JSON object, got null"),
    "a very long number": (b'{"messages": ' + b"9" * 5000 + b"}", "not a JSON object"),
    "Latin-1": (b'{"messages": [{"role": "user", "content": "caf\xe9"}]}', "not UTF-8: byte 0xe9"),
    "UTF-16": ('{"messages": 1}'.encode("utf-16"), "not UTF-8"),
    "endless brackets": (b'{"messages": ' + b"[" * 100_000, "nested too deeply"),
    "nested far": (call({"name": "f", "arguments": {"a": DEEP}}), "more than 100 levels"),
    "half a surrogate": (row({**U, "content": "a\ud800"}), "half a surrogate pair"),
    "half in a role": (row({**U, "role": "us\udc00er"}), "half a surrogate pair"),
    "half in a key": (call({"name": "f", "arguments": {"\ud800": 1}}), "half a surrogate pair"),
    "half in a tool": (row(tools=[{"name": "f\ud800"}]), "half a surrogate pair"),
    "half in a value": (row(chat_template_kwargs={"a": "\udfff"}), "half a surrogate pair"),
    "other keys": (b'{"question": "x"}', "`messages`: expected a list"),
    "no keys": (b"{}", "`messages`: expected a list"),
    "messages null": (b'{"messages": null}', "`messages`: expected a list"),
    "messages empty": (b'{"messages": []}', "`messages`: expected a list"),
    "messages a number": (b'{"messages": 3}', "`messages`: expected a list"),
    "messages text": (b'{"messages": "hello"}', "is text, but not JSON"),
    "a message is text": (row(answer="y"), "expected an object, got text"),
    "a message is null": (row(answer=None), "expected an object, got null"),
    "no role": (row(answer={"content": "y"}), "`messages[1].role`: expected text, got nothing"),
    "role a number": (row(answer={**A, "role": 3}), "`messages[1].role`: expected text, got a num"),
    "role empty": (row(answer={**A, "role": ""}), "`messages[1].role`: expected text"),
    "no content": (row({"role": "user"}), "`messages[0].content`: expected text, got null"),
    "content null": (row({**U, "content": None}), "`messages[0].content`: expected text"),
    "content a number": (row({**U, "content": 3}), "expected text, got a number"),
    "content an object": (row({**U, "content": {"a": 1}}), "expected text, got an object"),
    "no parts": (row({**U, "content": []}), "expected text, got a list"),
    "a part is text": (row({**U, "content": ["x"]}), "expected an object with `type`"),
    "a part without text": (row({**U, "content": [{"type": "text"}]}), "of type `text` with"),
    "a part of no type": (row({**U, "content": [{"type": "x", "text": "x"}]}), "of type `text`"),
    "a picture": (row({**U, "content": [{"type": "image"}]}), "parts of type `image`"),
    "pictures": (row(images=["a.png"]), "`images` (images"),
    "half a weight": (row(answer={**A, "weight": 0.5}), "is 0.5: weights in the loss"),
    "weight as text": (row(answer={**A, "weight": "1"}), "expected true, false, 0 or 1"),
    "train as text": (row(answer={**A, "train": "yes"}), "expected true, false, 0 or 1"),
    "mask of 3": (row(answer={**A, "mask": 3}), "expected true, false, 0 or 1"),
    "contradiction": (row(answer={**A, "train": True, "weight": 0}), "contradict each other"),
    "calls a number": (row(answer={**A, "tool_calls": 3}), "`messages[1].tool_calls`: expected a"),
    "a call without a name": (call({"arguments": {}}), "expected an object with a `name`"),
    "arguments torn": (call({"name": "f", "arguments": '{"a": '}), "is text, but not JSON"),
    "arguments a list": (call({"name": "f", "arguments": "[1]"}), "expected an object or its JSON"),
    "thoughts a number": (row(answer={**A, "thinking": 3}), "thinking`: expected text, got a num"),
    "an id a number": (row(answer={**A, "tool_call_id": 3}), "tool_call_id`: expected text"),
    "tools torn": (row(tools='[{"name": '), "`tools` is text, but not JSON"),
    "tools a number": (row(tools=3), "`tools`: expected a list, got a number"),
    "a tool a number": (row(tools=[3]), "`tools[0]`: expected an object, got a number"),
    "values a list": (row(chat_template_kwargs=[1]), "`chat_template_kwargs`: expected an object"),
    "two system prompts": (row({"role": "system", "content": "a"}, system="b"), "two system pro"),
    "a role that is refused": (row({"role": "judge", "content": "x"}),
                               "the chat template refuses messages[0] (`judge`): no judges"),
}


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    import small_tokenizers
    folder = tmp_path_factory.mktemp("model")
    small_tokenizers.save(small_tokenizers.byte_level(), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def damaged_file():
    """The lines, and {number of a line: kind}."""
    content, bad = [row() + b"\n"] * ROWS, {}
    for i, kind in enumerate(kind for _ in range(EACH) for kind in DAMAGE):
        number = 7 + i * (ROWS // (EACH * len(DAMAGE)))
        content[number - 1] = DAMAGE[kind][0] + b"\n"
        bad[number] = kind
    return b"".join(content), bad


@pytest.mark.parametrize("kind", ["no JSON", "half a surrogate"])
def test_strict_stops_at_the_first(tmp_path, chat_model, kind):
    done = Prepared(tmp_path, chat_model, {"rows": lines([{"messages": [U, A]}] * 9)
                                           + DAMAGE[kind][0] + b"\n" + DAMAGE["null"][0] + b"\n"},
                    strict=True)
    assert done.code == 3 and "rows.jsonl:10: error[E03" in done.output
    assert DAMAGE[kind][1] in done.output and "W0110" not in done.output
    assert not (tmp_path / "tokens" / "rows.tokens.h5").exists()


def test_every_damaged_row_of_100000_is_named_and_the_rest_come_through(tmp_path, chat_model):
    content, bad = damaged_file()
    assert len(DAMAGE) >= 50 and len(bad) == EACH * len(DAMAGE)
    # Everything in the loss: one rendering a row is enough here.
    done = Prepared(tmp_path, chat_model, {"rows": content}, loss_on="all")
    assert done.code == 0, done.output[-3000:]
    assert len(done.documents("rows")) == ROWS - len(bad)
    found = done.left_out("rows")
    assert set(found) == set(bad)
    named = set()
    for number, (code, message) in found.items():
        assert DAMAGE[bad[number]][1] in message and code in ("E0336", "E0337", "E0370"), message
        if f"rows.jsonl:{number}: error[{code}]" in done.output:
            named.add(bad[number])
    assert named == set(DAMAGE), "the first rows of each kind are named at once"
    counts = done.counts("rows")
    assert counts["left_out"] == len(bad)
    assert sum(counts["left_out_by_kind"].values()) == len(bad)
    assert f"warning[W0110]: {len(bad):,} of 100,000 rows cannot be used" in done.output
    starts = [line.partition(" x E")[0].strip() for line in done.output.splitlines()]
    summary = [start for start in starts if start.isdigit()]
    assert len(summary) == len(counts["left_out_by_kind"]) > 30
    assert "Traceback" not in done.output


@pytest.mark.parametrize("bad,code", [(4, 0), (5, 3), (10, 3)])
def test_half_of_the_rows_damaged_is_an_error(tmp_path, chat_model, bad, code):
    rows = [row()] * (10 - bad) + [b"{oops"] * bad
    done = Prepared(tmp_path, chat_model, {"rows": b"\n".join(rows)})
    assert done.code == code, done.output
    assert (tmp_path / "tokens" / "rows.tokens.h5").exists() == (code == 0)
    assert f"{bad} of 10 rows cannot be used" in done.output
    assert f"rows.jsonl:{11 - bad}: error[E0336]" in done.output


def test_list_of_left_out_rows_goes_when_they_are_mended(tmp_path, chat_model):
    Prepared(tmp_path, chat_model, {"rows": b"\n".join([row()] * 3 + [b"{oops"])})
    assert (tmp_path / "tokens" / "rows.left_out.jsonl").exists()
    Prepared(tmp_path, chat_model, {"rows": b"\n".join([row()] * 3)})
    assert not (tmp_path / "tokens" / "rows.left_out.jsonl").exists()


def test_token_beyond_the_vocabulary_is_damage_of_a_row_of_tokens(tmp_path, chat_model):
    rows = [{"input_ids": [1, 2]}] * 3 + [{"input_ids": [1, 100_000]}]
    done = Prepared(tmp_path, chat_model, {"rows": rows})
    assert done.code == 0 and done.left_out("rows")[4][0] == "E0330"
