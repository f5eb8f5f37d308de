"""`sutor generate` against transformers: greedy tokens, batches of unequal prompts, ranks."""

import collections
import json

import pytest
import torch

import models
from greedy import clear_prompts, generated


@pytest.mark.parametrize("shape", models.SHAPES, ids=lambda s: s.name)
def test_greedy_tokens_equal_transformers(program, model_dir, tmp_path, shape):
    folder = model_dir(shape)
    model = models.load(folder)
    prompts, expected = clear_prompts(model, shape.values["vocab_size"])
    assert generated(program, tmp_path, folder, prompts) == expected
    # Two at a time: new prompts take the places of those that are done.
    assert generated(program, tmp_path, folder, prompts, "--set", "generate.batch=2") == expected


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
@pytest.mark.parametrize("ranks,ep", [(2, 2), (2, 1), (4, 2)])
def test_greedy_tokens_are_the_same_on_ranks(program, model_dir, tmp_path, name, ranks, ep):
    shape = models.shape(name)
    folder = model_dir(shape)
    prompts, expected = clear_prompts(models.load(folder), shape.values["vocab_size"])
    assert generated(program, tmp_path, folder, prompts, "--set", f"parallel.ep={ep}",
                     ranks=ranks) == expected


def test_fewer_prompts_than_ranks(program, model_dir, tmp_path):
    shape = models.shape("ds-lite")
    folder = model_dir(shape)
    prompts, expected = clear_prompts(models.load(folder), shape.values["vocab_size"], [5])
    assert generated(program, tmp_path, folder, prompts, "--set", "parallel.ep=4",
                     ranks=4) == expected


def test_a_stop_token_ends_a_completion(program, model_dir, copy_of, tmp_path):
    shape = models.shape("qw-gqa")
    folder = copy_of(model_dir(shape))
    prompts, expected = clear_prompts(models.load(folder), shape.values["vocab_size"])
    stop = expected[0][10]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [stop]}))
    found = generated(program, tmp_path, folder, prompts)
    for ids, full in zip(found, expected):
        full = greedy_until(full, stop)
        assert ids[:len(full)] == full and (ids == full or 1 in full)


def greedy_until(ids, stop):
    return ids[:ids.index(stop) + 1] if stop in ids else ids


def test_samples_follow_the_distribution_and_the_seed(program, model_dir, tmp_path):
    """First tokens of many equal prompts: as often as the softmax at this temperature says."""
    shape = models.shape("qw-gqa")
    folder = model_dir(shape)
    prompt, count = [5, 9, 77], 2000
    with torch.no_grad():
        logits = models.load(folder)(torch.tensor([prompt])).logits[0, -1]
    temperature, top_p = 0.8, 0.7
    p, order = (logits / temperature).softmax(0).sort(descending=True)
    kept = int((p.cumsum(0) < top_p).sum()) + 1
    expected = {int(order[i]): float(p[i] / p[:kept].sum()) for i in range(kept)}
    sampling = ["--set", f"generate.temperature={temperature}", "--set", f"generate.top_p={top_p}",
                "--set", "generate.max_new_tokens=1", "--set", "generate.batch=256"]
    found = generated(program, tmp_path, folder, [prompt] * count, *sampling)
    counts = collections.Counter(ids[0] for ids in found)
    assert set(counts) <= set(expected)
    for token, share in expected.items():
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs(counts[token] / count - share) < 5 * deviation + 1e-9
    again = generated(program, tmp_path, folder, [prompt] * count, *sampling, ranks=2)
    assert again == found
    other = generated(program, tmp_path, folder, [prompt] * count, *sampling, "--set",
                      "generate.seed=1")
    assert other != found


@pytest.mark.parametrize("text,word", [("[[1, 2], []]", "prompt 2"), ("[[1, 9999]]", "9999"),
                                       ("[]", "no prompts"), ("{", "list")])
def test_bad_prompts_are_refused(program, model_dir, tmp_path, text, word):
    (tmp_path / "prompts.json").write_text(text)
    result = program.run("generate", "--model", model_dir(models.shape("ds-lite")), "--ids",
                         tmp_path / "prompts.json", "--out", tmp_path / "out.json", code=3)
    assert word in result.output
    assert not (tmp_path / "out.json").exists()
