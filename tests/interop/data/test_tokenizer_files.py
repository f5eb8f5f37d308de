"""Files beside tokenizer.json: added tokens and templates are those that transformers takes."""

import json

import pytest
import transformers

import small_tokenizers
from data_step import documents, run, trained

TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather"}}]
CHATML = (small_tokenizers.TEMPLATES / "chatml.jinja").read_text()
EOT = CHATML.replace("<|im_end|>", "<|eot|>")
WITH_TOOLS = "TOOLS {{ tools | tojson }}\n" + CHATML
TOKEN = {"content": "<|eot|>", "special": True, "lstrip": False, "rstrip": False,
         "normalized": False, "single_word": False}


@pytest.fixture
def files(model):
    """files({name: content}) -> a folder with these files beside its tokenizer.json; the size of
    the vocabulary of that is in a template's place of {size}."""
    def made(contents, size=1000):
        folder = model("byte_level")
        (folder / "tokenizer_config.json").unlink()
        (folder / "config.json").write_text(json.dumps({"vocab_size": size}))
        for name, content in contents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text)
        return folder
    return made


def size_of(folder):
    return max(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].values()) + 1


def by_transformers(folder, messages=None, text=None):
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    if text is not None:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]


ADDED = {
    "added_tokens_decoder": lambda n: {"tokenizer_config.json": {
        "eos_token": "<|eot|>", "added_tokens_decoder": {str(n): TOKEN}}},
    "added_tokens.json": lambda n: {
        "tokenizer_config.json": {"eos_token": "<|eot|>"}, "added_tokens.json": {"<|eot|>": n}},
    "a named token in no list": lambda n: {"tokenizer_config.json": {"eos_token": "<|eot|>"}},
    "special_tokens_map.json": lambda n: {
        "tokenizer_config.json": {}, "special_tokens_map.json": {"eos_token": TOKEN}},
    "additional_special_tokens": lambda n: {"tokenizer_config.json": {
        "eos_token": "</s>", "additional_special_tokens": ["<|eot|>"]}},
    "additional ones of the map": lambda n: {
        "tokenizer_config.json": {"eos_token": "</s>"},
        "special_tokens_map.json": {"additional_special_tokens": ["<|eot|>"]}},
    "a named token of the model's own": lambda n: {"tokenizer_config.json": {
        "eos_token": "</s>", "image_token": "<|eot|>"}},
    "a map that a list overrules": lambda n: {
        "tokenizer_config.json": {"eos_token": "</s>", "added_tokens_decoder": {str(n): TOKEN}},
        "special_tokens_map.json": {"eos_token": "<|nobody|>"}},
}


@pytest.mark.parametrize("form", ADDED)
def test_added_tokens_are_those_of_transformers(files, form, tmp_path):
    number = size_of(files({}))
    folder = files({**ADDED[form](number), "chat_template.jinja": EOT})
    expected = by_transformers(folder, TALK)
    assert expected.count(number) == 2
    rows = [{"messages": TALK}]
    [(ids, mask)] = documents(run(tmp_path, rows, folder))
    assert ids == expected
    assert ids[-2] == number and mask[-2:] == [1, 0]  # behind it is a line break


def test_the_end_token_of_text_may_be_an_added_one(files, tmp_path):
    folder = files(ADDED["added_tokens_decoder"](size_of(files({}))))
    [(ids, _)] = documents(run(tmp_path, [{"text": "some words"}], folder))
    assert ids == by_transformers(folder, text="some words<|eot|>")


def test_flags_of_an_added_token_count(files, tmp_path):
    """A list may say of a token that tokenizer.json has how it takes the blanks around it."""
    strips = {**TOKEN, "content": "</s>", "lstrip": True, "rstrip": True}
    folder = files({"tokenizer_config.json": {"added_tokens_decoder": {"1": strips}}})
    [(ids, _)] = documents(run(tmp_path, [{"text": "a </s> b"}], folder))
    assert ids == by_transformers(folder, text="a </s> b")
    assert len(ids) == 3


@pytest.mark.parametrize("contents, words", [
    ({"tokenizer_config.json": {"added_tokens_decoder": {"5000": TOKEN}}}, "the two files"),
    ({"added_tokens.json": {"</s>": 7}}, "the two files disagree"),
    ({"added_tokens.json": {"<|eot|>": "7"}}, "added_tokens.json: expected ids"),
    ({"tokenizer_config.json": {"added_tokens_decoder": {"x": TOKEN}}}, "expected ids and tokens"),
    ({"tokenizer_config.json": {"added_tokens_decoder": [1]}}, "is no object")])
def test_lists_of_tokens_that_disagree_are_refused(files, contents, words, tmp_path):
    result = run(tmp_path, [{"text": "x"}], files(contents))
    assert result.code == 3 and "error[E0338]" in result.output and words in result.output


def test_an_added_token_beyond_the_model_is_named(files, tmp_path):
    number = size_of(files({}))
    folder = files({**ADDED["added_tokens_decoder"](number), "chat_template.jinja": EOT}, number)
    result = run(tmp_path, [{"messages": TALK}], folder)
    assert result.code == 3 and f"error[E0330]: token id {number}" in result.output.replace(
        "rows.jsonl:1: ", "")


# Several templates.

LISTED = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": WITH_TOOLS},
          {"name": "rag", "template": "RAG " + CHATML}]
SEVERAL = {
    "in a list": {"tokenizer_config.json": {"chat_template": LISTED}},
    "in a folder": {"chat_template.jinja": CHATML,
                    "additional_chat_templates/tool_use.jinja": WITH_TOOLS,
                    "additional_chat_templates/rag.jinja": "RAG " + CHATML},
}


@pytest.mark.parametrize("where", SEVERAL)
def test_a_row_with_tools_takes_the_template_for_tools(files, where):
    folder = files(SEVERAL[where])
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    for tools in (None, TOOLS):
        expected = tokenizer.apply_chat_template(TALK, tools=tools, tokenize=False)
        [text] = trained(folder, TALK, tools).texts
        assert text.replace("[b<|im_end|>]", "b<|im_end|>") == expected
        assert ("get_weather" in text) == (tools is not None)


@pytest.mark.parametrize("where", SEVERAL)
def test_the_recipe_may_name_a_template(files, tmp_path, where):
    folder = files(SEVERAL[where])
    rows = [{"messages": TALK, "tools": TOOLS}]
    result = run(tmp_path, rows, folder, template="rag", show=1)
    assert "RAG<|im_start|>" in result.output and "get_weather" not in result.output
    result = run(tmp_path, rows, folder, template="rags")
    assert result.code == 3 and "it has: default, rag, tool_use" in result.output


def test_a_template_of_its_own_file_has_no_sisters_in_the_list(files):
    folder = files({**SEVERAL["in a list"], "chat_template.jinja": CHATML})
    assert "get_weather" not in trained(folder, TALK, TOOLS).texts[0]


@pytest.mark.parametrize("listed, words", [
    ([{"name": "default"}], "has no `name` and `template`"), (["x"], "has no `name`"),
    ([{"name": "rag", "template": CHATML}], "several chat templates (rag)")])
def test_a_list_of_templates_without_what_is_wanted_is_named(files, tmp_path, listed, words):
    folder = files({"tokenizer_config.json": {"chat_template": listed}})
    result = run(tmp_path, [{"messages": TALK}], folder)
    assert result.code == 3 and "error[E0338]" in result.output and words in result.output
    assert "Traceback" not in result.output


def test_only_the_template_that_is_used_must_be_right(files):
    folder = files({"chat_template.jinja": CHATML,
                    "additional_chat_templates/rag.jinja": "{% if %}"})
    assert trained(folder, TALK).ends == {"<|im_end|>": 1}


# End tokens of the model's files.

@pytest.mark.parametrize("generation, config, warned", [
    (0, None, True), ([0, 3], None, False), (None, 3, False), (None, 0, True), (None, None, True),
    ({"eos_token_id": None}, 3, False)])
def test_ends_at_which_the_model_does_not_stop_are_said(
        files, tmp_path, generation, config, warned):
    folder = files({"chat_template.jinja": CHATML,
                    "tokenizer_config.json": {"eos_token": "<|im_end|>"}})
    (folder / "config.json").write_text(json.dumps({"vocab_size": 1000, "eos_token_id": config}))
    if generation is not None:
        generation = generation if isinstance(generation, dict) else {"eos_token_id": generation}
        (folder / "generation_config.json").write_text(json.dumps(generation))
    result = run(tmp_path, [{"messages": TALK}, {"messages": TALK}], folder)
    assert ("warning[W0112]: the end token <|im_end|> (3, 2 times)" in result.output) == warned
    assert ("W0112" in result.output) == warned


def test_the_end_of_plain_text_is_compared_too(files, tmp_path):
    folder = files({"tokenizer_config.json": {"eos_token": "</s>"},
                    "generation_config.json": {"eos_token_id": 3}})
    result = run(tmp_path, [{"text": "x"}], folder)
    assert "the end token </s> (1, 1 times) is in the loss, but generation_config.json names " \
        "<|im_end|> (3)" in result.output
