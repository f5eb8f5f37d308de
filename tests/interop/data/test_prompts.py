"""tools/prompts.py: prompt ids are those of transformers, texts those of its decoding."""

import json
import pathlib
import subprocess
import sys
import types

import pytest
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "tests" / "golden" / "completions" / "intent.jsonl"
TALK = [
    {"role": "user", "content": "What is the colour of the sky?"},
    {"role": "assistant", "content": "It is blue."},
    {"role": "user", "content": "And at night, süß?\n"},
    {"role": "assistant", "content": "  Black, with stars. 好\n\n"},
]
FEW_SHOT = "User: Q: 1\nA: 2\n\nQ: 意图 3\nA:\n\nAssistant:"  # as the ESFT authors' eval rows


def run(folder, action, rows, model, **job):
    """Runs prompts.py on `rows`; never fails by itself."""
    path = folder / "in.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    out = folder / "out" / "out.jsonl"
    job = {"action": action, "model": str(model), "tokenizer": "auto", "template": "auto",
           "rows": str(path), "generated": str(path), "format": "auto", "max_prompt_tokens": 0,
           "too_long": "drop", "stop_ids": [], "out": str(out), **job}
    process = subprocess.run([sys.executable, "-B", str(ROOT / "tools" / "prompts.py"),
                              json.dumps(job)], capture_output=True, text=True, timeout=120)
    return types.SimpleNamespace(code=process.returncode, errors=process.stderr,
                                 output=process.stdout, out=out)


def lines(result):
    assert result.code == 0, result.errors
    return [json.loads(line) for line in result.out.read_text(encoding="utf-8").splitlines()]


def encoded(folder, rows, model, **job):
    """(lines, what was counted) of a run that went well."""
    result = run(folder, "encode", rows, model, **job)
    return lines(result), json.loads(result.output)


def by_transformers(model):
    return transformers.AutoTokenizer.from_pretrained(model)


def change_config(model, **values):
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
@pytest.mark.parametrize("template", ["chatml", "plain_roles"])
def test_talks_are_prompts_of_their_last_answer(tmp_path, model, kind, template):
    folder = model(kind, template)
    rows = [{"messages": TALK}, {"messages": TALK[:3]}, {"messages": TALK[:2]}]
    prompts, counted = encoded(tmp_path, rows, folder)
    tokenizer = by_transformers(folder)
    for line, count in zip(prompts, (3, 3, 1)):
        render = {"conversation": TALK[:count], "add_generation_prompt": True}
        assert line["example"]["prompt"] == tokenizer.apply_chat_template(**render, tokenize=False)
        assert line["ids"] == tokenizer.apply_chat_template(**render, return_dict=True)["input_ids"]
    assert [line["example"]["raw_answers"] for line in prompts] == [
        [TALK[3]["content"]], [], [TALK[1]["content"]]]
    assert (counted["format"], counted["prompts"], counted["with_answers"]) == ("messages", 3, 2)


def test_tools_reach_the_template(tmp_path, model):
    folder = model("byte_level", "chatml")
    (folder / "chat_template.jinja").write_text(
        "{{ tools[0].name }}:{% for m in messages %}{{ m.content or '-' }}{% endfor %}"
        "{% if add_generation_prompt %}>{% endif %}")
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "clock"}]}
    rows = [{"messages": TALK[:1] + [call], "tools": [{"name": "clock"}]}]
    [line], _ = encoded(tmp_path, rows, folder)
    assert line["example"] == {"prompt": f"clock:{TALK[0]['content']}>", "raw_answers": []}


@pytest.mark.parametrize("begins", [True, False])
def test_plain_prompts_begin_as_the_tokenizer_says(tmp_path, model, begins):
    folder = model("byte_level")
    change_config(folder, add_bos_token=begins)
    rows = [{"idx": 0, "prompt": FEW_SHOT, "raw_answers": ["4"], "answers": ["5"]},
            {"prompt": FEW_SHOT, "completion": " 4"},
            {"prompt": FEW_SHOT, "answers": "5"},
            {"prompt": FEW_SHOT}]
    prompts, counted = encoded(tmp_path, rows, folder)
    ids = by_transformers(folder)(FEW_SHOT, add_special_tokens=False)["input_ids"]
    for line in prompts:
        assert line["ids"] == [0] * begins + ids
        assert line["example"]["prompt"] == FEW_SHOT
    assert [line["example"]["raw_answers"] for line in prompts] == [["4"], [" 4"], ["5"], []]
    assert (counted["format"], counted["with_answers"]) == ("prompt", 3)
    assert (counted["bos_id"], counted["eos_id"], counted["eos_token"]) == (0, 1, "</s>")


def test_a_bare_tokenizer_takes_its_tokens_from_the_model_config(tmp_path, model):
    folder = model("byte_level")
    (folder / "tokenizer_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "bos_token_id": 0, "eos_token_id": [3, 1]}))
    [line], counted = encoded(tmp_path, [{"text": "It is"}], folder)
    assert line["ids"][0] == 0
    assert (counted["eos_id"], counted["eos_token"]) == (3, "<|im_end|>")


def test_the_prompt_is_what_training_saw(tmp_path, model):
    """prepare's document of a prompt and its completion begins with the ids of the prompt."""
    import h5py
    folder = model("byte_level", "plain_roles")
    for row in ({"prompt": FEW_SHOT, "completion": " 4"}, {"messages": TALK[:2]}):
        [line], _ = encoded(tmp_path, [row], folder)
        source = {"kind": "train", "path": str(tmp_path / "in.jsonl"), "format": "auto",
                  "name": "rows", "out": str(tmp_path / "rows.tokens.h5")}
        job = {"model": str(folder), "tokenizer": "auto", "template": "auto", "seq_len": 512,
               "loss_on": "assistant", "too_long": "drop", "show": 0, "colour": False,
               "producer": "test", "sources": [source]}
        subprocess.run([sys.executable, "-B", str(ROOT / "tools" / "prepare.py"), json.dumps(job)],
                       check=True, timeout=60, stdout=subprocess.DEVNULL)
        with h5py.File(source["out"]) as store:
            ids, mask = store["ids"][:].tolist(), store["loss_mask"][:].tolist()
        assert line["ids"] == ids[:len(line["ids"])]
        assert mask.index(1) == len(line["ids"])


def test_text_and_token_rows_are_prompts_as_they_are(tmp_path, model):
    folder = model("byte_level")
    [line], counted = encoded(tmp_path, [{"text": "It is"}], folder)
    assert line["example"] == {"prompt": "It is", "raw_answers": []}
    assert counted["format"] == "text"
    rows = [{"input_ids": [5, 6, 7]}, {"input_ids": [8], "raw_answers": "x"}]
    prompts, counted = encoded(tmp_path, rows, tmp_path)  # a folder without a tokenizer
    assert prompts == [{"ids": [5, 6, 7], "example": {"prompt": None, "raw_answers": []}},
                       {"ids": [8], "example": {"prompt": None, "raw_answers": ["x"]}}]
    assert (counted["format"], counted["eos_id"], counted["tokens"]) == ("tokens", -1, 4)


def test_long_prompts_are_dropped_or_cut(tmp_path, model):
    folder = model("byte_level")
    change_config(folder, add_bos_token=True)
    rows = [{"text": "It is"}, {"text": "The cobbler sticks to his last. " * 5}, {"text": ""}]
    all_of_them, counted = encoded(tmp_path, rows[:2], folder)
    short, long = (line["ids"] for line in all_of_them)
    assert (counted["longest"], counted["tokens"]) == (len(long), len(short) + len(long))
    limits = {"max_prompt_tokens": len(long) - 3}
    dropped, counted = encoded(tmp_path, rows, folder, **limits)
    assert [line["ids"] for line in dropped][0] == short
    assert (counted["rows"], counted["dropped"], counted["cut"]) == (3, 1, 0)
    cut, counted = encoded(tmp_path, rows, folder, **limits, too_long="left")
    assert cut[1]["ids"] == long[:1] + long[4:]  # the begin token stays
    assert (counted["dropped"], counted["cut"]) == (0, 1)
    assert encoded(tmp_path, rows[1:2], folder, max_prompt_tokens=len(long))[1]["cut"] == 0
    change_config(folder, add_bos_token=False)
    _, counted = encoded(tmp_path, rows, folder)
    assert (counted["prompts"], counted["empty"]) == (2, 1)
    [line], _ = encoded(tmp_path, rows[1:2], folder, max_prompt_tokens=4, too_long="left")
    assert line["ids"] == long[-4:]
    tokens = [{"input_ids": list(range(10))}]
    [line], _ = encoded(tmp_path, tokens, folder, max_prompt_tokens=4, too_long="left")
    assert line["ids"] == [6, 7, 8, 9]


def test_special_tokens_in_texts_are_counted(tmp_path, model):
    folder = model("byte_level", "chatml")
    assert encoded(tmp_path, [{"messages": TALK}], folder)[1]["special_in_text"] == 0
    rows = [{"messages": [{"role": "user", "content": "a</s>b"}]}, {"messages": TALK}]
    assert encoded(tmp_path, rows, folder)[1]["special_in_text"] == 1


BAD_ROWS = {
    "unknown keys": ([{"question": "x"}], "E0336", "in.jsonl:1"),
    "another format": ([{"text": "x"}, {"prompt": "x"}], "E0336", "in.jsonl:2"),
    "answer is a number": ([{"prompt": "x", "raw_answers": [5]}], "E0336", "`raw_answers`"),
    "id beyond the model": ([{"input_ids": [1, 100_000]}], "E0330", "100000"),
    "no rows": ([], "E0334", "holds no rows"),
    "nothing left": ([{"input_ids": [1, 2, 3]}], "E0334", "1 have more than 2 tokens"),
    "template refuses": ([{"messages": [{"role": "judge", "content": "x"}]}], "E0336", "may speak"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_named(tmp_path, model, case):
    rows, code, words = BAD_ROWS[case]
    limit = 2 if case == "nothing left" else 0
    result = run(tmp_path, "encode", rows, model("byte_level", "plain_roles"),
                 max_prompt_tokens=limit)
    assert result.code == 3 and f"error[{code}]" in result.errors, result.errors
    assert words in result.errors and "Traceback" not in result.errors
    assert result.output == "" and not list(result.out.parent.iterdir())


def test_missing_tokenizer_and_template_are_named(tmp_path, model):
    result = run(tmp_path, "encode", [{"text": "x"}], tmp_path)
    assert result.code == 3 and "tokenizer.json does not exist" in result.errors
    for template in ("auto", "none"):
        result = run(tmp_path, "encode", [{"messages": TALK}], model("byte_level"),
                     template=template)
        assert result.code == 3 and "data.template" in result.errors


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_decoded_texts_are_those_of_transformers(tmp_path, model, kind):
    folder = model(kind)
    tokenizer = by_transformers(folder)
    texts = [" It is blue.", "süß 好😀\n\n", "", "  two  blanks", "Black , with n't"]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ids += [ids[1][:-1], ids[1][1:], [0, *ids[0], 1]]  # a character in halves; special tokens
    rows = [{"ids": each, "example": {"prompt": "Q", "raw_answers": ["a"]}} for each in ids]
    found = lines(run(tmp_path, "decode", rows, folder))
    assert found == [
        {"example": {"prompt": "Q", "raw_prediction": tokenizer.decode(
            each, skip_special_tokens=True), "raw_answers": ["a"]}, "score": None} for each in ids]
    predictions = [line["example"]["raw_prediction"] for line in found]
    if kind == "byte_level":
        assert predictions[:5] == texts
    assert predictions[-1] == predictions[0]


def test_published_completions_survive_encoding_and_decoding(tmp_path, model):
    folder = model("byte_level")
    tokenizer = by_transformers(folder)
    published = [json.loads(line) for line in PUBLISHED.read_text(encoding="utf-8").splitlines()]
    questions = [{key: row["example"][key] for key in ("prompt", "raw_answers")}
                 for row in published]
    prompts, _ = encoded(tmp_path, questions, folder)
    answers = tokenizer([row["example"]["raw_prediction"] for row in published],
                        add_special_tokens=False)["input_ids"]
    rows = [{**prompt, "ids": ids + [1]} for prompt, ids in zip(prompts, answers)]
    completions = lines(run(tmp_path, "decode", rows, folder, stop_ids=[1]))
    assert completions == [{**row, "score": None} for row in published]


def test_a_text_ends_at_its_first_stop_token(tmp_path, model):
    folder = model("byte_level")
    tokenizer = by_transformers(folder)
    stop = tokenizer("!", add_special_tokens=False)["input_ids"][0]  # no special token
    ids = tokenizer("It is", add_special_tokens=False)["input_ids"]
    rows = [{"ids": generated, "example": {"prompt": None, "raw_answers": [], "idx": 4}, "n": 3}
            for generated in (ids + [stop], ids + [1], ids + [stop, *ids, stop], ids, [stop], [])]
    result = run(tmp_path, "decode", rows, folder, stop_ids=[stop, 1])
    found = lines(result)
    assert [line["example"]["raw_prediction"] for line in found] == ["It is"] * 4 + ["", ""]
    assert found[0] == {"example": {"prompt": None, "raw_prediction": "It is", "raw_answers": [],
                                    "idx": 4}, "score": None, "n": 3}
    assert json.loads(result.output) == {"completions": 6, "stopped": 4, "unknown_ids": 0,
                                         "tokens": sum(len(row["ids"]) for row in rows)}


def test_ids_that_the_tokenizer_does_not_know_are_counted(tmp_path, model):
    rows = [{"ids": [5, 100_000, 100_000], "example": {}}]
    result = run(tmp_path, "decode", rows, model("byte_level"))
    assert json.loads(result.output)["unknown_ids"] == 2
    assert lines(result)[0]["example"] == {
        "prompt": None, "raw_prediction": lines(result)[0]["example"]["raw_prediction"],
        "raw_answers": None}


@pytest.mark.parametrize("row", [{"ids": [1]}, {"ids": "1", "example": {}},
                                 {"ids": [1, -1], "example": {}}, {"example": {}}])
def test_bad_generated_rows_are_named(tmp_path, model, row):
    good = {"ids": [5], "example": {}}
    result = run(tmp_path, "decode", [good, row], model("byte_level"))
    assert result.code == 3 and "in.jsonl:2: error[E0336]" in result.errors
