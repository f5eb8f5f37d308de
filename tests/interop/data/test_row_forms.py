"""Rows in the form of every tool give the documents of the same rows in OpenAI's form; the form is
detected, said, and can be overridden."""

import json

import pytest

from row_sets import CHATML, Prepared

S, U, A = "Be brief.", "What is the time?", "It is late."
TALK = [{"role": "user", "content": U}, {"role": "assistant", "content": A}]
LONG = [{"role": "system", "content": S}] + TALK + [
    {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Later. 好"}]
PROMPT = [{**m, "train": False} if m["role"] == "assistant" else m for m in LONG[:4]]
TOOL = {"name": "clock", "description": "d", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "clock", "arguments": {"zone": "x"}}
WITH_TOOL = [TALK[0], {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": CALL}]}, {"role": "tool", "content": "12"}, TALK[1]]
TOOLS = [{"type": "function", "function": TOOL}]
NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def sharegpt(messages):
    return [{"from": NAMES[m["role"]], "value": m["content"]} for m in messages]


PAIRS = [[U, A]]
SWIFT_CALLS = [TALK[0], {"role": "tool_call", "content": json.dumps(CALL)},
               {"role": "tool_response", "content": "12"}, TALK[1]]
# Form -> (row, row in OpenAI's form that gives the same document).
CASES = {
    "sharegpt": ({"conversations": sharegpt(LONG)}, {"messages": LONG}),
    "sharegpt_system": ({"conversations": sharegpt(LONG[1:]), "system": S}, {"messages": LONG}),
    "sharegpt_roles": ({"conversations": LONG}, {"messages": LONG}),
    "sharegpt_bot": ({"conversation": [{"from": "user", "value": U},
                                       {"from": "bot", "value": A}]}, {"messages": TALK}),
    "sharegpt_calls": ({"conversations": [
        {"from": "human", "value": U}, {"from": "function_call", "value": json.dumps(CALL)},
        {"from": "observation", "value": "12"}, {"from": "gpt", "value": A}],
        "tools": json.dumps([TOOL])}, {"messages": WITH_TOOL, "tools": TOOLS}),
    "sharegpt_pairs": ({"conversation": [{"human": U, "assistant": A}]}, {"messages": TALK}),
    "swift_calls": ({"messages": SWIFT_CALLS, "tools": [TOOL]},
                    {"messages": WITH_TOOL, "tools": TOOLS}),
    "swift_query": ({"query": "And now?", "response": "Later. 好", "history": PAIRS, "system": S},
                    {"messages": LONG}),
    "swift_chosen": ({"messages": TALK, "rejected_response": "No."}, {"messages": TALK}),
    "mistral": ({"interactions": [{"role": "user", "text": U}, {"role": "assistant", "text": A}],
                 "system_prompt": S}, {"messages": LONG[:3]}),
    "alpaca": ({"instruction": U, "input": "", "output": A}, {"messages": TALK}),
    "alpaca_input": ({"instruction": "Tell it.", "input": U, "output": A}, {"messages": [
        {"role": "user", "content": f"Tell it.\n{U}"}, TALK[1]]}),
    "alpaca_history": ({"instruction": "And now?", "output": "Later. 好", "history": PAIRS,
                        "system": S}, {"messages": LONG}),
    "trl_lists": ({"prompt": LONG[:4], "completion": LONG[4:]}, {"messages": PROMPT + LONG[4:]}),
    "trl_json_text": ({"prompt": json.dumps(TALK[:1]), "completion": json.dumps(TALK[1:])},
                      {"messages": TALK}),
    "trl_chosen": ({"prompt": TALK[:1], "chosen": TALK[1:],
                    "rejected": [{"role": "assistant", "content": "No."}]}, {"messages": TALK}),
    "trl_implicit": ({"chosen": LONG, "rejected": LONG[:4] + [
        {"role": "assistant", "content": "No."}]}, {"messages": PROMPT + LONG[4:]}),
    "prompt_repeated": ({"prompt": U, "chosen": TALK, "rejected": TALK[:1] + [
        {"role": "assistant", "content": "No."}]}, {"messages": TALK}),
    "factory_chosen": ({"conversations": sharegpt(TALK[:1]), "chosen": sharegpt(TALK[1:])[0],
                        "rejected": {"from": "gpt", "value": "No."}}, {"messages": TALK}),
    "factory_alpaca": ({"instruction": U, "input": "", "chosen": A, "rejected": "No."},
                       {"messages": TALK}),
    "openai_chosen": ({"input": {"messages": TALK[:1], "tools": TOOLS},
                       "preferred_output": TALK[1:], "non_preferred_output": [
                           {"role": "assistant", "content": "No."}]},
                      {"messages": TALK, "tools": TOOLS}),
    "chosen_text": ({"prompt": U, "chosen": " Late.", "rejected": " No."},
                    {"prompt": U, "completion": " Late."}),
    "chosen_text_implicit": ({"chosen": "Q: time? A: late", "rejected": "Q: time? A: no"},
                             {"prompt": "Q: time? A:", "completion": " late"}),
    "esft_answers": ({"prompt": U, "raw_answers": [" late "], "answers": ["x"]},
                     {"prompt": U, "completion": " late"}),
    "labelled": ({"prompt": U, "completion": " Late.", "label": True},
                 {"prompt": U, "completion": " Late."}),
    "columns_messages": ({"dialog": TALK, "messages": "?"}, {"messages": TALK}),
    "columns_text": ({"content": A, "text": "?"}, {"text": A}),
    "format_text": ({"text": A, "messages": TALK}, {"text": A}),
    "format_completion": ({"question": U, "answer": A, "text": "?"},
                          {"prompt": U, "completion": A}),
}
MORE = {
    "columns_messages": {"columns": {"messages": "dialog"}},
    "columns_text": {"columns": {"text": "content"}},
    "format_text": {"format": "text"},
    "format_completion": {"columns": {"prompt": "question", "completion": "answer"}},
}
FORM = {"sharegpt": "sharegpt", "swift_query": "alpaca", "mistral": "messages", "trl_lists":
        "completion", "trl_implicit": "preference", "openai_chosen": "preference",
        "alpaca_input": "alpaca", "columns_text": "text"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    import small_tokenizers
    folder = tmp_path_factory.mktemp("model")
    small_tokenizers.save(small_tokenizers.byte_level(), folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    sets = {}
    for name, (row, same) in CASES.items():
        sets[name] = {"rows": [row], **MORE.get(name, {})}
        sets["same_" + name] = [same]
    good = {"prompt": U, "completion": A, "label": True}
    sets["kto"] = [good, {**good, "label": False}, {"prompt": U, "completion": A, "kto_tag": False}]
    return Prepared(tmp_path_factory.mktemp("sets"), folder, sets)


@pytest.mark.parametrize("case", CASES)
def test_row_of_any_form_gives_the_document_of_openais(prepared, case):
    [text], [same] = prepared.texts(case), prepared.texts("same_" + case)
    assert text == same
    assert "[[" in text and "No." not in text


def test_form_is_detected_and_said(prepared):
    for name, form in FORM.items():
        assert f"train {name}: 1 rows ({form}, guessed)" in prepared.output, prepared.output
    assert "train format_text: 1 rows (text)" in prepared.output


def test_answer_that_nobody_wants_is_not_trained(prepared):
    assert len(prepared.documents("kto")) == 1
    assert prepared.counts("kto")["not_chosen"] == 2
    assert "2 rows left out: their `label` is false" in prepared.output
