#!/usr/bin/env python3
"""Writes intent_lengths.txt: of every row of the ESFT authors' intent set (deepseek-ai/ESFT,
datasets/train/intent.jsonl, 7,280 rows in file order) the tokens of the document and those of its
answer with the end token, by the DeepSeek-LLM vocabulary and the authors' format: the begin token,
"User: " + prompt + "\\n\\nAssistant:", " " + answer, the end token, each text encoded alone.

  .venv/bin/python tests/golden/packing/make_intent_lengths.py intent.jsonl tokenizer.json

Then prints what the authors' concatenation makes of these documents: the figures of the tests.
tokenizers 0.23.3, Python 3.11.
"""

import json
import pathlib
import random
import sys

from tokenizers import Tokenizer

SEED, DROP, LENGTH = 5934875, 0.2, 4096


def documents(rows, tokenizer):
    """(tokens, answer tokens) of every row; all have one prompt and one answer."""
    for line in open(rows, encoding="utf-8"):
        prompt, answer = (m["content"].strip() for m in json.loads(line)["messages"])
        sizes = [len(tokenizer.encode(text, add_special_tokens=False).ids)
                 for text in (f"User: {prompt}\n\nAssistant:", f" {answer}")]
        yield 1 + sizes[0] + sizes[1] + 1, sizes[1] + 1


def figures(lengths):
    """Packs of labels: True where the model is trained, as the authors' program has them."""
    draw = random.Random(SEED)
    packs, pack, cut, lost, dropped = [], [], 0, 0, 0
    for length, answer in lengths:
        labels = [True] + [False] * (length - 1 - answer) + [True] * answer
        room = LENGTH - len(pack)
        if length > room:
            cut, lost, labels = cut + 1, lost + length - room, labels[-room:]
        if pack and draw.random() < DROP:
            dropped, labels = dropped + 1, labels[1:]
        pack += labels
        if len(pack) == LENGTH:
            packs.append(pack)
            pack = []
    packs += [pack] if pack else []
    targets = sum(sum(labels[1:]) for labels in packs)  # the model shifts them
    tokens = sum(map(len, packs))
    return (f"{sum(n for n, _ in lengths):,} tokens, {len(packs)} packs, {cut} cut, {lost:,} lost, "
            f"{dropped:,} first tokens dropped; {targets:,} of {tokens:,} are targets")


if __name__ == "__main__":
    lengths = list(documents(sys.argv[1], Tokenizer.from_file(sys.argv[2])))
    path = pathlib.Path(__file__).with_name("intent_lengths.txt")
    path.write_text("".join(f"{length} {answer}\n" for length, answer in lengths))
    print(figures(lengths))
