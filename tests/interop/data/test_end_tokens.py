"""Generation stops at every end token that model, tokenizer, template and training name, and a
merged model's generation_config.json names what its rows trained as an end."""

import json
import shutil

import pytest
import tokenizers

import runner
import small_tokenizers
from artifacts import tree

CHATML = (small_tokenizers.TEMPLATES / "chatml.jinja").read_text()
ENDS_WITH = ("{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}"
             "END{% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}")


@pytest.fixture(scope="module")
def babbler(program, tmp_path_factory):
    """babbler() -> a tiny random model with a tokenizer and a template that name no end token."""
    base = tmp_path_factory.mktemp("base") / "model"
    program.run("init-model", "--family", "qwen3_moe", "--size", "tiny", "--out", base)

    def made(folder):
        shutil.copytree(base, folder)
        (folder / "generation_config.json").unlink()
        small_tokenizers.byte_level().save(str(folder / "tokenizer.json"))
        change(folder / "config.json", bos_token_id=None, eos_token_id=None)
        (folder / "tokenizer_config.json").write_text('{"bos_token": null, "eos_token": null}')
        (folder / "chat_template.jinja").write_text(ENDS_WITH.replace("END", "\n"))
        return folder
    return made


def change(path, **keys):
    have = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**have, **keys}))


def completion(program, folder, tmp_path, *arguments):
    rows = tmp_path / "prompts.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "It is blue."}]}) + "\n")
    out = tmp_path / "out.jsonl"
    program.run("generate", "--model", folder, "--prompts", rows, "--out", out, "--dtype", "fp32",
                "--set", "generate.max_new_tokens=12", *arguments)
    return json.loads(out.read_text())["example"]["raw_prediction"]


@pytest.mark.parametrize("who", ["generation_config.json", "config.json", "tokenizer", "template"])
def test_generation_stops_where_any_of_them_says(program, babbler, tmp_path, who):
    folder = babbler(tmp_path / "model")
    whole = completion(program, folder, tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    said = tokenizer.encode(whole, add_special_tokens=False).tokens
    stop = said[-1]  # a random model says the same again and again
    number = tokenizer.token_to_id(stop)
    others = {"eos_token_id": 1}  # which is never said
    change(folder / "generation_config.json", **others)
    if who in ("generation_config.json", "config.json"):
        change(folder / who, eos_token_id=[number])
    elif who == "tokenizer":
        change(folder / "tokenizer_config.json", eos_token=stop)
    else:
        tokenizer.add_special_tokens([stop])
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "chat_template.jinja").write_text(ENDS_WITH.replace("END", stop))
    short = completion(program, folder, tmp_path)
    assert whole.startswith(short) and len(short) < len(whole)


def trained_run(program, folder, tmp_path, generation):
    """A short training on a chat whose answers end with <|im_end|> (3)."""
    (folder / "chat_template.jinja").write_text(CHATML)
    if generation is not None:
        change(folder / "generation_config.json", **generation)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "q"},
                                             {"role": "assistant", "content": "a"}]}) + "\n")
    run = runner.Run(program, tmp_path, folder, rows,
                     {"experts": {"1": [0, 1, 2, 3]}, "shared_experts": False,
                      "non_expert_modules": True}, steps=1,
                     data={"loss_on": "assistant"}, optim={"lr": 1e-2})
    program.run("prepare", run.recipe)
    run.train()
    return run


@pytest.mark.parametrize("generation, expected", [
    ({"eos_token_id": 2, "temperature": 0.5}, {"eos_token_id": [2, 3], "temperature": 0.5}),
    ({"eos_token_id": [2, 3]}, {"eos_token_id": [2, 3]}), (None, {"eos_token_id": [3]})],
    ids=["another", "the same", "no file"])
def test_a_merged_model_stops_where_its_rows_ended(
        program, babbler, tmp_path, generation, expected):
    folder = babbler(tmp_path / "model")
    before = tree(folder)
    run = trained_run(program, folder, tmp_path, generation)
    adapter, merged = run.export()
    assert json.loads((merged / "generation_config.json").read_text()) == expected
    same = {name: digest for name, digest in tree(merged).items() if name in before}
    changed = {name for name in same if same[name] != before[name]}
    assert {name for name in changed if not name.endswith(".safetensors")} == {
        "chat_template.jinja"}
    assert json.loads((adapter / "sutor_adapter.json").read_text())[
        "end_tokens"] == [3]
    program.run("verify", merged)
    # What is merged from the adapter is the same, and generation with it stops there, too.
    program.run("merge", "--base", folder, "--adapter", adapter, "--out", tmp_path / "again",
                "--verify")
    assert (tmp_path / "again" / "generation_config.json").read_bytes() == (
        merged / "generation_config.json").read_bytes()


def test_an_export_without_training_keeps_the_file(program, babbler, tmp_path):
    folder = babbler(tmp_path / "model")
    run = trained_run(program, folder, tmp_path, {"eos_token_id": 2})
    program.run("export", run.recipe, "--checkpoint", "none", "--format", "merged", "--verify")
    assert (run.output / "export" / "merged" / "generation_config.json").read_bytes() == (
        folder / "generation_config.json").read_bytes()


def test_an_export_whose_file_was_put_back_is_not_as_expected(program, babbler, tmp_path):
    folder = babbler(tmp_path / "model")
    _, merged = trained_run(program, folder, tmp_path, {"eos_token_id": 2}).export()
    (merged / "generation_config.json").write_bytes(
        (folder / "generation_config.json").read_bytes())
    result = program.run("verify", merged, code=3)
    assert "generation_config.json" in result.output
