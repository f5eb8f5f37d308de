"""tools/prepare.py: ids and masks are those of transformers, bad rows are named, stores are right.

The tokenizers are small_tokenizers'; the templates are in tests/golden/templates.
"""

import json

import h5py
import numpy as np
import pytest
import transformers

from data_step import documents, run
from small_tokenizers import TEMPLATES

TALK = [
    {"role": "user", "content": "What is the colour of the sky?"},
    {"role": "assistant", "content": "It is blue."},
    {"role": "user", "content": "And at night, süß?\n"},
    {"role": "assistant", "content": "  Black, with stars. 好\n\n"},
]
CALM = [{"role": "system", "content": "Be brief."}] + TALK[:2]


def by_transformers(folder, messages):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    result = tokenizer.apply_chat_template(messages, return_dict=True,
                                           return_assistant_tokens_mask=True)
    return result["input_ids"], result["assistant_masks"]


def trained_text(folder, ids, mask):
    """What is in the loss, runs joined by |."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    runs, last = [], 0
    for token, flag in zip(ids, mask):
        if flag and not last:
            runs.append([])
        if flag:
            runs[-1].append(token)
        last = flag
    return "|".join(tokenizer.decode(run) for run in runs)


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
@pytest.mark.parametrize("talk", [TALK, CALM], ids=["turns", "system"])
def test_marked_template_gives_the_ids_and_masks_of_transformers(tmp_path, model, kind, talk):
    folder = model(kind, "chatml_marked")
    expected_ids, expected_mask = by_transformers(folder, talk)
    [(ids, mask)] = documents(run(tmp_path, [{"messages": talk}], folder))
    assert ids == expected_ids
    assert mask == expected_mask
    assert sum(mask) > 0


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_prefix_difference_equals_the_marks(tmp_path, model, kind):
    marked = documents(run(tmp_path, [{"messages": TALK}], model(kind, "chatml_marked")))
    assert documents(run(tmp_path, [{"messages": TALK}], model(kind, "chatml"))) == marked


@pytest.mark.parametrize("template", ["chatml", "plain_roles"])
def test_prompt_ids_are_those_of_inference(tmp_path, model, template):
    folder = model("byte_level", template)
    [(ids, mask)] = documents(run(tmp_path, [{"messages": TALK[:2]}], folder))
    prompt = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(
        TALK[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids[:len(prompt)] == prompt
    assert mask[:len(prompt) + 2] == [0] * len(prompt) + [1, 1]


def test_stop_token_is_in_the_loss_and_what_follows_is_not(tmp_path, model):
    folder = model("byte_level", "plain_roles")
    [(ids, mask)] = documents(run(tmp_path, [{"messages": TALK}], folder))
    assert trained_text(folder, ids, mask) == " It is blue.</s>|   Black, with stars. 好\n\n</s>"
    folder = model("byte_level", "chatml")
    [(ids, mask)] = documents(run(tmp_path, [{"messages": TALK[:2]}], folder))
    assert trained_text(folder, ids, mask) == "It is blue.<|im_end|>"
    assert mask[-1] == 0  # the line break after the stop


def test_next_role_is_the_stop_where_there_is_no_other(tmp_path, model):
    folder = model("byte_level", "role_is_stop")
    [(ids, mask)] = documents(run(tmp_path, [{"messages": TALK}], folder))
    assert (trained_text(folder, ids, mask)
            == "\nIt is blue.<|user|>|\n  Black, with stars. 好\n\n<|user|>")
    thinking = [{**message, "reasoning_content": "Hm."} for message in TALK]
    first, second = documents(run(tmp_path, [{"messages": thinking}], folder))
    assert trained_text(folder, *first) == "\nHm.\nIt is blue.<|user|>"
    assert trained_text(folder, *second) == "\nHm.\n  Black, with stars. 好\n\n<|user|>"


def test_rewritten_turns_become_documents_of_their_own(tmp_path, model):
    folder = model("byte_level", "thinking_dropped")
    result = run(tmp_path, [{"messages": TALK}], folder)
    first, second = documents(result)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for (ids, mask), count in ((first, 2), (second, 4)):
        text = tokenizer.apply_chat_template(TALK[:count], tokenize=False)
        assert tokenizer.decode(ids) == text
        answer = TALK[count - 1]["content"]
        assert trained_text(folder, ids, mask) == f"<think>\n\n</think>\n{answer}<|im_end|>"
    assert "1 rows became one document" in result.output


def test_template_that_cannot_be_split_is_refused_with_the_reason(tmp_path, model):
    result = run(tmp_path, [{"messages": TALK}], model("byte_level", "opens_thinking"))
    assert result.code == 3
    assert "rows.jsonl:1: error[E0339]" in result.output
    assert "generation prompt" in result.output
    assert not result.store.exists()


@pytest.mark.parametrize("template", ["chatml", "chatml_marked"])
def test_loss_on_and_message_marks(tmp_path, model, template):
    folder = model("byte_level", template)

    def trained(messages, loss_on="assistant"):
        [(ids, mask)] = documents(run(tmp_path, [{"messages": messages}], folder, loss_on=loss_on))
        return trained_text(folder, ids, mask)

    black = "  Black, with stars. 好\n\n<|im_end|>"
    assert trained(TALK) == "It is blue.<|im_end|>|" + black
    assert trained(TALK, "last") == black
    assert trained(TALK, "completion") == black
    assert trained([TALK[0], {**TALK[1], "mask": 1}] + TALK[2:]) == black
    assert trained(TALK[:3] + [{**TALK[3], "train": False}]) == "It is blue.<|im_end|>"
    assert trained(TALK[:2], "all") == "user\nWhat is the colour of the sky?<|im_end|>\n" + (
        "<|im_start|>assistant\nIt is blue.<|im_end|>\n")


def test_text_and_completion_rows_begin_and_end_as_the_tokenizer_says(tmp_path, model):
    folder = model("byte_level")
    row = {"prompt": "What is the colour?", "completion": " It is blue."}
    for config, begin in (({"add_bos_token": True}, [0]), ({"add_bos_token": False}, [])):
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        [(ids, mask)] = documents(run(tmp_path, [{"text": "It is blue."}], folder))
        assert ids[:len(begin)] == begin and ids[-1] == 1
        assert mask == [0] + [1] * (len(ids) - 1)
        [(ids, mask)] = documents(run(tmp_path, [row], folder))
        assert ids[:len(begin)] == begin
        assert trained_text(folder, ids, mask) == " It is blue.</s>"
    [(ids, mask)] = documents(run(tmp_path, [row], folder, loss_on="all"))
    assert mask == [0] + [1] * (len(ids) - 1)


def test_completion_of_a_metaspace_tokenizer_is_trained_whole(tmp_path, model):
    folder = model("metaspace")
    row = {"prompt": "What is the colour?", "completion": " It is blue."}
    [(ids, mask)] = documents(run(tmp_path, [row], folder))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    whole = tokenizer(row["prompt"] + row["completion"], add_special_tokens=False)["input_ids"]
    assert [token for token in ids if token not in (0, 1)] == whole
    assert trained_text(folder, ids, mask).strip() == "It is blue.</s>"


def test_token_rows_need_no_tokenizer(tmp_path):
    rows = [{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}, {"input_ids": [9, 9]}]
    result = run(tmp_path, rows, tmp_path)
    assert documents(result) == [([5, 6, 7, 8], [0, 0, 1, 1]), ([9, 9], [0, 1])]
    with h5py.File(result.store) as file:
        assert file.attrs["supervised_tokens"] == 3
        assert file.attrs["vocab_size"] == 10
        assert file.attrs["tokenizer_digest"] == b""


def test_store_has_the_documented_attributes_and_checksum(tmp_path, model):
    rows = [{"text": "It is blue. " * 20}, {"text": ""}, {"text": "user"}]
    result = run(tmp_path, rows, model("byte_level"), seq_len=8)
    pairs = documents(result)
    assert "1 longer than 8 tokens (drop)" in result.output
    assert "1 empty dropped" in result.output
    with h5py.File(result.store) as file:
        attributes = dict(file.attrs)
        assert file["ids"].chunks is None and file["loss_mask"].dtype == np.uint8
        bounds = file["doc_offsets"][:].tolist()
    assert attributes["format"] == b"sutor.token_store"
    assert (attributes["rows"], attributes["documents"]) == (3, 2)
    ids = [token for document, _ in pairs for token in document]
    mask = [flag for _, flags in pairs for flag in flags]
    expected = sum((t + 1) * (2 * ids[t] + mask[t] + 1) for t in range(len(ids)))
    expected += sum((len(ids) + d + 1) * bound for d, bound in enumerate(bounds))
    assert int(attributes["checksum"]) == expected % 2**64
    assert attributes["tokens"] == len(ids) and attributes["max_id"] == max(ids)
    assert attributes["source_digest"].startswith(b"sha256:")
    assert [p.name for p in result.store.parent.iterdir()] == [result.store.name]


def test_show_marks_what_is_trained(tmp_path, model):
    folder = model("byte_level", "chatml")
    result = run(tmp_path, [{"messages": TALK[:2]}], folder, show=1)
    assert "<|im_start|>assistant\n[[It is blue.<|im_end|>]]\n" in result.output
    assert "\x1b[32mIt is blue.<|im_end|>\x1b[0m" in run(
        tmp_path, [{"messages": TALK[:2]}], folder, show=1, colour=True).output
    tokens = run(tmp_path, [{"input_ids": [5, 6, 7]}], folder, show=1)
    assert "5 [[6 7]]" in tokens.output


def test_show_makes_visible_what_a_terminal_would_obey(tmp_path, model):
    talk = [TALK[0], {"role": "assistant", "content": "a\x1b[2Jb\u202ec\x07\td"}]
    result = run(tmp_path, [{"messages": talk}], model("byte_level", "chatml"), show=1)
    assert "[[a\\x1b[2Jb\\u202ec\\x07\td<|im_end|>]]" in result.output


@pytest.mark.parametrize("colour", [False, True])
def test_show_prints_ids_on_request(tmp_path, model, colour):
    result = run(tmp_path, [{"messages": TALK}], model("byte_level", "chatml"), show=1, ids=True,
                 colour=colour)
    [(ids, mask)] = documents(result)
    begin, end = ("\x1b[32m", "\x1b[0m") if colour else ("[[", "]]")
    printed = result.output.partition("ids: ")[2].partition("\n")[0].removeprefix("\x1b[0m")
    plain = printed.replace(begin, "").replace(end, "")
    assert plain.split() == [str(token) for token in ids]
    marked = [part.partition(end)[0].split() for part in printed.split(begin)[1:]]
    assert sum(marked, []) == [str(token) for token, flag in zip(ids, mask) if flag]
    assert "ids: " not in run(tmp_path, [{"messages": TALK}], model("byte_level", "chatml"),
                              show=1).output


def test_show_prints_before_the_rest_is_prepared(tmp_path, model):
    rows = [{"text": f"It is blue {n}."} for n in range(1200)] + [{"text": 5}]
    result = run(tmp_path, rows, model("byte_level"), show=1, workers=2, strict=True)
    assert result.code == 3 and "document 1: " in result.output


GOOD = json.dumps({"text": "It is blue."}).encode() + b"\n"
BAD_FILES = {
    "no JSON": (GOOD + b"{oops\n", "E0336", "rows.jsonl:2"),
    "no object": (b"[1, 2]\n", "E0336", "rows.jsonl:1"),
    "not UTF-8": (GOOD + b'\n{"text": "caf\xe9"}\n', "E0337", "rows.jsonl:3"),
    "half a surrogate": (b'{"text": "a\\ud800"}\n', "E0337", "rows.jsonl:1"),
    "unknown keys": (b'{"question": "x"}\n', "E0336", "rows.jsonl:1"),
    "another format": (GOOD + b'{"prompt": "a", "completion": "b"}\n', "E0336", "rows.jsonl:2"),
    "text is a number": (b'{"text": 3}\n', "E0336", "rows.jsonl:1"),
    "content is a list": (b'{"messages": [{"role": "user", "content": ["x"]}]}\n', "E0336",
                          "rows.jsonl:1"),
    "no messages": (b'{"messages": []}\n', "E0336", "rows.jsonl:1"),
    "template refuses": (b'{"messages": [{"role": "judge", "content": "x"}]}\n', "E0336",
                         "only user and assistant may speak"),
    "labels too short": (b'{"input_ids": [1, 2], "labels": [1]}\n', "E0336", "rows.jsonl:1"),
    "label of another id": (b'{"input_ids": [1, 2], "labels": [-100, 1]}\n', "E0336", "labels[1]"),
    "id that is no id": (b'{"input_ids": [1, -2]}\n', "E0336", "input_ids[1]"),
    "id beyond the model": (b'{"input_ids": [1, 100000]}\n', "E0330", "100000"),
    "no rows": (b"\n\n", "E0334", "rows.jsonl"),
    "nothing in the loss": (b'{"input_ids": [1, 2], "labels": [-100, -100]}\n', "E0334",
                            "in the loss"),
    "only a user": (b'{"messages": [{"role": "user", "content": "x"}]}\n', "E0334", "in the loss"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_rows_are_named(tmp_path, model, case):
    content, code, words = BAD_FILES[case]
    result = run(tmp_path, content, model("byte_level", "plain_roles"))
    assert result.code == 3, result.output
    assert f"error[{code}]" in result.output and words in result.output
    assert "Traceback" not in result.output
    assert not result.store.exists()


def test_missing_tokenizer_and_template_are_named(tmp_path, model):
    result = run(tmp_path, [{"text": "x"}], tmp_path)
    assert result.code == 3 and "tokenizer.json does not exist" in result.output
    result = run(tmp_path, [{"messages": TALK}], model("byte_level"))
    assert result.code == 3 and "data.template" in result.output
    result = run(tmp_path, [{"text": "x"}], tmp_path, tokenizer=str(TEMPLATES / "chatml.jinja"))
    assert result.code == 3 and "is no tokenizer" in result.output
