"""Greedy completions of transformers, and those of `sutor generate`."""

import json

import pytest
import torch

NEW_TOKENS = 64
LENGTHS = [3, 17, 1, 40, 9, 23, 2]
CLEAR = 1e-4  # a choice with a smaller gap between the two best logits is no choice to compare


def greedy(model, prompt):
    """New ids as transformers generates them, and the smallest gap between the two best logits."""
    with torch.no_grad():
        out = model.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False,
                             use_cache=True, return_dict_in_generate=True, output_logits=True,
                             attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                             pad_token_id=0)
    best = [step[0].float().topk(2).values for step in out.logits]
    return (out.sequences[0, len(prompt):].tolist(),
            min(float(pair[0] - pair[1]) for pair in best))


def clear_prompts(model, vocab, lengths=LENGTHS):
    """Prompts of these lengths whose completions meet no near-tie, with the completions."""
    found = []
    for i, length in enumerate(lengths):
        for seed in range(20):
            generator = torch.Generator().manual_seed(1000 * i + seed)
            prompt = torch.randint(2, vocab, (length,), generator=generator).tolist()
            ids, gap = greedy(model, prompt)
            if gap > CLEAR:
                found.append((prompt, ids))
                break
        else:
            pytest.fail(f"no prompt of {length} tokens without a near-tie in 20 seeds")
    return [p for p, _ in found], [ids for _, ids in found]


def generated(program, tmp_path, model, prompts, *arguments, ranks=1):
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    program.run("generate", "--model", model, "--ids", tmp_path / "prompts.json", "--out",
                tmp_path / "out.json", "--set", f"generate.max_new_tokens={NEW_TOKENS}",
                *arguments, ranks=ranks, timeout=120)
    return json.loads((tmp_path / "out.json").read_text())
