"""Keys of rows: what any tool gives a meaning to is honoured, or refused with file and line; the
rest is named once. And rows reach the template as transformers would hand them over."""

import json
import sys

import pytest
import transformers

from row_sets import CHATML, ROOT, Prepared

ASK = {"role": "user", "content": "a"}
BAD, GOOD = {"role": "assistant", "content": "BAD"}, {"role": "assistant", "content": "GOOD"}
TOOL = {"type": "function", "function": {"name": "clock", "description": "ü", "parameters": {
    "type": "object", "properties": {"zone": {"type": "string", "default": None}}}}}
CALL = {"type": "function", "function": {"name": "clock", "arguments": {"zone": "好", "n": 2}}}
TALK = [ASK, {"role": "assistant", "content": "It is late."}]


def two(bad, good=None):
    return [{"messages": [ASK, {**BAD, **bad}, ASK, {**GOOD, **(good or {})}]}]


def calling(**changed):
    return {"role": "assistant", "content": "", "tool_calls": [CALL], **changed}


# A key by which BAD is not to be trained; GOOD is.
NOT_TRAINED = {
    "weight_0": two({"weight": 0}, {"weight": 1}),
    "weight_as_fraction": two({"weight": 0.0}, {"weight": 1.0}),
    "training": two({"training": False}),
    "train": two({"train": False}, {"train": True}),
    "mask": two({"mask": 1}, {"mask": 0}),
    "loss": two({"loss": False}, {"loss": True}),
    "loss_scale": two({"loss_scale": 0}, {"loss_scale": 1.0}),
    "only_last": [{**two({})[0], "only_last": True}],
    "sharegpt_weight": [{"conversations": [
        {"from": "human", "value": "a"}, {"from": "gpt", "value": "BAD", "weight": 0},
        {"from": "human", "value": "a"}, {"from": "gpt", "value": "GOOD"}]}],
}
TOKENS = {
    "attention_mask": ({"input_ids": [20, 21, 22, 9, 9], "attention_mask": [1, 1, 1, 0, 0]},
                       ([20, 21, 22], [0, 1, 1])),
    "padding_before": ({"input_ids": [9, 20, 21, 22], "attention_mask": [0, 1, 1, 1],
                        "position_ids": [1, 0, 1, 2], "labels": [-100, -100, -100, 22]},
                       ([20, 21, 22], [0, 0, 1])),
    "assistant_masks": ({"input_ids": [20, 21, 22, 23], "assistant_masks": [0, 0, 1, 1]},
                        ([20, 21, 22, 23], [0, 0, 1, 1])),
    "completion_mask": ({"input_ids": [20, 21, 22, 23], "completion_mask": [0, 0, 1, 1]},
                        ([20, 21, 22, 23], [0, 0, 1, 1])),
    "both_masks": ({"input_ids": [20, 21, 22], "completion_mask": [0, 1, 1],
                    "assistant_masks": [1, 0, 1], "loss_mask": [True, True, True]},
                   ([20, 21, 22], [0, 0, 1])),
    "labels_and_loss_scale": ({"input_ids": [20, 21, 22], "labels": [20, 21, 22],
                               "loss_scale": [1.0, 1.0, 0.0], "token_type_ids": [0, 0, 0]},
                              ([20, 21, 22], [0, 1, 0])),
}
# Rows that give the document of the first one.
SAME = {
    "tools": [{"messages": TALK, "tools": tools} for tools in (
        [TOOL], json.dumps([TOOL]), [json.dumps(TOOL)], [TOOL["function"]],
        [{**TOOL, "function": {**TOOL["function"],
                               "parameters": json.dumps(TOOL["function"]["parameters"])}}])]
    + [{"messages": TALK, "functions": [TOOL["function"]]},
       {"messages": TALK, "available_tools": [TOOL]}],
    "arguments": [{"messages": [ASK, calling(tool_calls=[call])]} for call in (
        CALL, {**CALL, "function": {**CALL["function"],
                                    "arguments": json.dumps(CALL["function"]["arguments"])}},
        CALL["function"], json.dumps(CALL))]
    + [{"messages": [ASK, calling(tool_calls=None, function_call=CALL["function"])]},
       {"messages": [ASK, calling(content=None)]}],
    "thoughts": [{"messages": [ASK, {**GOOD, key: "Hm."}]}
                 for key in ("reasoning_content", "thinking", "reasoning")]
    + [{"messages": [ASK, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "GOOD"}]}]}],
    "parts": [{"messages": TALK}, {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]},
        {"role": "assistant", "content": [{"type": "text", "text": "It is "},
                                          {"type": "output_text", "text": "late."}]}]}],
    "system": [{"messages": [{"role": "system", "content": "S"}] + TALK},
               {"messages": TALK, "system": "S"}, {"messages": TALK, "system_prompt": "S"}],
    "nulls": [{"messages": TALK},
              {"messages": [{**m, "tool_calls": None, "name": None, "weight": None} for m in TALK],
               "tools": None, "images": None, "system": None, "videos": []}],
    "values": [{"messages": TALK, "chat_template_kwargs": {"mood": "好"}},
               {"messages": TALK, "chat_template_kwargs": '{"mood": "好"}'}],
}
REFUSED = {
    "weight": {"messages": [ASK, {**GOOD, "weight": 0.5}]},
    "row weight": {"messages": TALK, "weight": 2},
    "images": {"messages": TALK, "images": ["cat.png"]},
    "images of a message": {"messages": [{**ASK, "images": ["cat.png"]}, GOOD]},
    "image_url": {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "cat.png"}}]}, GOOD]},
    "train_detail": {"messages": [ASK, {**GOOD, "train_detail": [{"begin_offset": 0}]}]},
    "refusal": {"messages": [ASK, {"role": "assistant", "refusal": "No."}]},
    "audios": {"messages": TALK, "audios": ["cat.wav"]},
    "tools given twice": {"messages": TALK, "chat_template_kwargs": {"tools": []}},
}
REFUSED_TOKENS = {
    "hole": {"input_ids": [20, 21, 22], "attention_mask": [1, 0, 1]},
    "loss_scale": {"input_ids": [20, 21], "loss_scale": [1, 0.3]},
    "position_ids": {"input_ids": [20, 21], "position_ids": [0, 0]},
    "seq_lengths": {"input_ids": [20, 21], "seq_lengths": [1, 1]},
}
UNREAD = [{"messages": [{**ASK, "name": "Ann", "stamp": 7}, GOOD], "id": 1, "prompt": "x"},
          {"messages": TALK, "id": 2, "images": ["cat.png"]}]


def interleaved(rows, good):
    """Bad rows at the even lines, so that they are fewer than the half."""
    return [good] + [each for row in rows for each in (row, good)]


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    import small_tokenizers
    folder = tmp_path_factory.mktemp("model")
    small_tokenizers.save(small_tokenizers.byte_level(), folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, chat_model):
    sets = {**NOT_TRAINED, **SAME, "tokens_" + "many": [row for row, _ in TOKENS.values()]}
    sets["refused"] = interleaved(REFUSED.values(), {"messages": TALK})
    sets["refused_tokens"] = interleaved(REFUSED_TOKENS.values(), {"input_ids": [20, 21]})
    sets["unread"] = {"rows": UNREAD, "columns": {"images": None}}
    return Prepared(tmp_path_factory.mktemp("sets"), chat_model, sets)


@pytest.mark.parametrize("key", NOT_TRAINED)
def test_message_is_not_in_the_loss_by_the_key_of_any_tool(prepared, key):
    [text] = prepared.texts(key)
    assert "[[GOOD<|im_end|>]]" in text and "BAD" in text and "[[BAD" not in text


@pytest.mark.parametrize("case", TOKENS)
def test_masks_of_other_trainers_decide_what_tokens_are_trained(prepared, case):
    assert prepared.documents("tokens_many")[list(TOKENS).index(case)] == TOKENS[case][1]


@pytest.mark.parametrize("name", SAME)
def test_one_meaning_under_several_keys_gives_one_document(prepared, name):
    texts = prepared.texts(name)
    assert len(texts) == len(SAME[name])
    assert texts == texts[:1] * len(texts)


def test_documents_are_what_transformers_renders(prepared, chat_model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_model)
    for name, row in [(name, rows[0]) for name, rows in SAME.items()]:
        text = tokenizer.apply_chat_template(
            row["messages"], tools=row.get("tools"), tokenize=False,
            **row.get("chat_template_kwargs", {}))
        assert prepared.texts(name)[0].replace("[[", "").replace("]]", "") == text
    # And null keys, thoughts by their other names, which it handles itself.
    for name, row in [("nulls", SAME["nulls"][1]), ("thoughts", SAME["thoughts"][1]),
                      ("thoughts", SAME["thoughts"][2]), ("arguments", SAME["arguments"][5])]:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        assert prepared.texts(name)[0].replace("[[", "").replace("]]", "") == text


@pytest.mark.parametrize("name,cases", [("refused", REFUSED), ("refused_tokens", REFUSED_TOKENS)])
def test_key_that_is_known_and_not_supported_is_refused_with_file_and_line(prepared, name, cases):
    found = prepared.left_out(name)
    for number, case in enumerate(cases):
        code, message = found[2 * number + 2]
        assert code == "E0370", (case, message)
        assert f"{name}.jsonl:{2 * number + 2}: error[E0370]" in prepared.output
    assert len(found) == len(cases)


def test_key_that_nobody_knows_is_counted_and_named_once(prepared):
    [line] = [line for line in prepared.output.splitlines() if "W0111" in line]
    assert "id (2)" in line and "prompt (1)" in line and "messages[].stamp (1)" in line
    assert "name" not in line.split("meaning:")[1], "the template shows it"
    assert len(prepared.documents("unread")) == 2, "a column that is set to null is not read"


def test_every_key_of_the_table_is_read_or_refused():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from sutor_prepare.errors import PrepareError
        from sutor_rows import row_keys
    finally:
        sys.path.pop(0)
    for key in row_keys.ROW_KEYS:
        unread = row_keys.new_counts()
        if key.read_by:
            for form in key.read_by:
                row_keys.check_row_keys({key.name: 1}, form, unread, "x:1")
            assert not unread, key
        else:
            with pytest.raises(PrepareError, match=key.name) as raised:
                row_keys.check_row_keys({key.name: [1]}, "messages", unread, "x:1")
            assert raised.value.code == 370
    names = [key.name for key in row_keys.ROW_KEYS]
    assert len(set(names)) == len(names)


# Templates that read one and the same row in other ways.
HABITS = {
    "reads parts": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}"
        "{{ m.content }}{% else %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endif %}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        [{"role": "user", "content": [{"type": "text", "text": "a"}]}, TALK[1]], "user\n<a>"),
    "reads parts alone": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}{{ p.text }}"
        "{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        TALK, "[[It is late.<|im_end|>]]"),
    "drops what is no string": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if m.content is string else '' }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        [ASK, {"role": "assistant", "content": [{"type": "text", "text": "one, "},
                                                {"type": "text", "text": "two"}]}],
        "[[one, two<|im_end|>]]"),
    "arguments as text": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}{% endfor %}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        [ASK, calling()], '[[clock{"zone": "好", "n": 2}<|im_end|>]]'),
    "content must be there": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m['content'] is none %}-"
        "{% else %}{{ '' + m['content'] }}{% endif %}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name }}{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        [ASK, calling(content=None)], "[[-clock<|im_end|>]]"),
    "no developer": (
        "{% for m in messages if m.role != 'developer' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        [{"role": "developer", "content": "S"}] + TALK, "<|im_start|>system\nS<|im_end|>"),
    "content may lack": (
        "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.content is defined %}"
        "{{ ': ' + m.content }}{% endif %}{% for c in m.tool_calls or [] %}|{{ c.function.name }}"
        "{% endfor %}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}",
        [ASK, calling(content=None)], "assistant[[|clock<|im_end|>]]"),
}


@pytest.mark.parametrize("habit", HABITS)
def test_messages_are_given_as_the_template_reads_them(tmp_path, chat_model, habit):
    template, messages, wanted = HABITS[habit]
    (tmp_path / "t.jinja").write_text(template)
    done = Prepared(tmp_path, chat_model, {"rows": [{"messages": messages}]},
                    template=str(tmp_path / "t.jinja"))
    [text] = done.texts("rows")
    assert wanted in text and "None" not in text and "'text'" not in text


def test_what_a_template_does_not_show_is_said(tmp_path, chat_model):
    template = "{% for m in messages if m.role != 'tool' %}<|im_start|>{{ m.role }}\n" \
        "{{ m.content }}<|im_end|>{% endfor %}" \
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    (tmp_path / "t.jinja").write_text(template)
    row = {"messages": TALK + [{"role": "tool", "content": "12"}], "tools": [TOOL]}
    done = Prepared(tmp_path, chat_model, {"rows": [row]}, template=str(tmp_path / "t.jinja"))
    [line] = [line for line in done.output.splitlines() if "W0111" in line]
    assert "messages of `tool`" in line and "tools (the chat template shows none)" in line


def test_refusal_of_a_template_names_row_message_and_its_words(tmp_path, chat_model):
    template = "{% for m in messages %}{% if m.content == 'never' %}" \
        "{{ raise_exception('I cannot say never') }}{% endif %}<|im_start|>{{ m.role }}\n" \
        "{{ m.content }}<|im_end|>{% endfor %}" \
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    (tmp_path / "t.jinja").write_text(template)
    rows = [{"messages": TALK}, {"messages": TALK},
            {"messages": TALK + [{"role": "user", "content": "never"}, GOOD]}]
    done = Prepared(tmp_path, chat_model, {"rows": rows}, template=str(tmp_path / "t.jinja"))
    assert done.left_out("rows") == {3: (
        "E0336", "the chat template refuses messages[2] (`user`): I cannot say never")}
