"""`sutor eval` of recipes against transformers: losses, matches, masks, generation and scores."""

import dataclasses
import json
import math
import shutil

import pytest
import torch

import models
import runner
import small_tokenizers


def eval_run(program, tmp_path, model, ids, config, **eval_source):
    """A run with an evaluation set of the same rows, trained for two steps."""
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    run = runner.Run(program, tmp_path, model, rows, config, steps=2, optim={"lr": 1e-2})
    run.set_section("data", {"eval": [{"path": str(rows), "name": "task", **eval_source}]})
    run.prepare().train()
    return run


def evaluate(run, *arguments, ranks=1, code=0):
    result = run.program.run("eval", run.recipe, "--json", *arguments, ranks=ranks, code=code)
    if code:
        return result.output
    return json.loads(result.output[result.output.index("{"):])


def measures(model, ids):
    """What teacher forcing of transformers' model gives."""
    with torch.no_grad():
        logits = model(ids).logits[:, :-1].float()
    targets = ids[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    hits = logits.argmax(-1) == targets
    return {"loss": float(losses), "ppl": math.exp(float(losses)),
            "token_acc": float(hits.float().mean()),
            "exact_match": float(hits.all(1).float().mean())}


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_measures_before_and_after_equal_transformers(program, model_dir, tmp_path, name):
    shape = models.shape(name)
    model, ids = model_dir(shape), models.sample_ids(shape)
    config = models.pick_experts(models.load(model), per_layer=3)
    run = eval_run(program, tmp_path, model, ids, config)
    found = evaluate(run, "--checkpoint", "latest")
    run.program.run("export", run.recipe, "--checkpoint", "latest", "--format", "merged")
    for which, folder in [("base", model), ("trained", run.output / "export" / "merged")]:
        values = found[which]["sets"]["task"]
        assert values["targets"] == ids[:, 1:].numel()
        for key, value in measures(models.load(folder), ids).items():
            assert values[key] == pytest.approx(value, rel=1e-5), (which, key)
    assert found["trained"]["sets"]["task"]["loss"] < found["base"]["sets"]["task"]["loss"]
    on_ranks = evaluate(run, "--checkpoint", "latest", "--set", "parallel.ep=2", ranks=2)
    for which in ("base", "trained"):
        assert on_ranks[which]["sets"]["task"] == pytest.approx(found[which]["sets"]["task"],
                                                                rel=1e-5)


def test_exact_match_counts_documents(program, model_dir, tmp_path):
    """Targets that are the model's own choices match; one of four rows is spoilt. A document of
    several segments, longer than seq_len, counts once."""
    shape = models.shape("qw-gqa")
    model = model_dir(shape)
    loaded = models.load(model)
    rows = models.sample_ids(shape, rows=4, tokens=3)
    with torch.no_grad():
        for _ in range(4):
            rows = torch.cat([rows, loaded(rows).logits[:, -1:].argmax(-1)], 1)
    labels = rows.clone()
    labels[:, :3] = -100
    rows[2, 5] = labels[2, 5] = (rows[2, 5] + 1) % shape.values["vocab_size"]
    config = models.pick_experts(loaded)
    path = runner.write_rows(rows, tmp_path / "rows.jsonl", labels)
    run = runner.Run(program, tmp_path, model, path, config, steps=1)
    run.set_section("data", {"eval": [{"path": str(path), "name": "task"}]})
    run.prepare()
    for ranks in (1, 2):
        found = evaluate(run, "--checkpoint", "none", ranks=ranks)["base"]["sets"]["task"]
        assert found["targets"] == 16 and found["exact_match"] == 0.75
    cut = evaluate(run, "--checkpoint", "none", "--set", "data.seq_len=5", "--set",
                   "data.too_long=split")["base"]["sets"]["task"]
    assert cut["targets"] == 16 and cut["exact_match"] <= 0.75


def test_masked_experts_are_not_chosen(program, model_dir, tmp_path):
    shape = models.shape("ds-lite")
    model, ids = model_dir(shape), models.sample_ids(shape)
    loaded = models.load(model)
    config = models.pick_experts(loaded, per_layer=3)
    run = eval_run(program, tmp_path, model, ids, config)
    found = evaluate(run, "--checkpoint", "none", "--mask", tmp_path / "expert_config.json")
    for layer, block in models.moe_layers(loaded):
        def masked(_, inputs, output, block=block, layer=layer):
            hidden = inputs[0].reshape(-1, inputs[0].shape[-1])
            scores = torch.nn.functional.linear(hidden.float(), block.gate.weight.float())
            scores = scores.softmax(-1)
            allowed = scores.clone()
            allowed[:, config["experts"][str(layer)]] = 0
            chosen = allowed.topk(shape.values["num_experts_per_tok"], -1).indices
            return output[0], scores.gather(1, chosen), chosen
        block.gate.register_forward_hook(masked)
    expected = measures(loaded, ids)
    assert found["base"]["sets"]["task"]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    everything = {"experts": {"1": list(range(14))}, "shared_experts": False,
                  "non_expert_modules": False}
    (tmp_path / "most.json").write_text(json.dumps(everything))
    output = evaluate(run, "--checkpoint", "none", "--mask", tmp_path / "most.json", code=3)
    assert "every token needs 3" in output


@pytest.mark.parametrize("ranks", [1, 2])
def test_generated_completions_are_scored(program, model_dir, copy_of, tmp_path, ranks):
    """A set with a scorer: prompts are completed, and the completions scored, in one command."""
    gqa = models.shape("qw-gqa")
    shape = dataclasses.replace(gqa, name="qw-text", values=gqa.values | {"vocab_size": 420})
    model = copy_of(model_dir(shape))
    tokenizer = small_tokenizers.byte_level()
    small_tokenizers.save(tokenizer, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / name, model / name)
    rows = [{"prompt": "the sky", "raw_answers": ["is blue"]},
            {"prompt": "sutor", "raw_answers": ["ne ultra", "crepidam"]}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = runner.Run(program, tmp_path, model, path, models.pick_experts(models.load(model)),
                     steps=1)
    run.set_section("data", {"eval": [{"path": str(path), "name": "task",
                                       "scorer": "exact,rouge_l"}], "loss_on": "completion"})
    run.set_section("generate", {"max_new_tokens": 5})
    run.prepare().train()
    found = evaluate(run, "--checkpoint", "latest", "--set", f"parallel.ep={ranks}", ranks=ranks)
    for which in ("base", "trained"):
        values = found[which]["sets"]["task"]
        assert 0 <= values["exact"] <= 1 and 0 <= values["rouge_l"] <= 1
        completions = runner.read_lines(run.output / "evaluation" / which / "task.jsonl")
        assert [c["example"]["prompt"] for c in completions] == ["the sky", "sutor"]
        assert all(set(c["score"]) == {"exact", "rouge_l"} for c in completions)
    scored = program.run("eval", "--completions",
                         run.output / "evaluation" / "base" / "task.jsonl", "--scorer", "exact",
                         "--json")
    assert json.loads(scored.output)["mean"] == found["base"]["sets"]["task"]["exact"]
