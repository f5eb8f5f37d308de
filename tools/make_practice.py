#!/usr/bin/env python3
"""A model and rows for the tutorial (docs/tutorial.md), made here, without a download:

  practice/model/           a small mixture-of-experts chat model that was trained on general.jsonl
  practice/train.jsonl      200 rows of a task that it has never seen: sorting letters to a workshop
  practice/held_out.jsonl   40 rows of the task for evaluation
  practice/general.jsonl    40 rows of what it can do already, to see what it forgets

  .venv/bin/python tools/make_practice.py build/sutor [FOLDER]       10 s to a minute on two cores
"""

import json
import pathlib
import random
import shutil
import subprocess
import sys

TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
            "message['content'] + '<|im_end|>\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

DEPARTMENTS = {
    "repair": ["the heel came off", "the sole is loose", "a seam is torn", "the zip is stuck",
               "an eyelet broke", "the lining has a hole"],
    "order": ["I need a new pair", "please make boots", "can you make sandals",
              "I would like clogs", "two pairs for my children", "dancing shoes for May"],
    "invoice": ["the bill is too high", "I paid twice", "the receipt is missing",
                "may I pay in June", "the sum is wrong", "I have no invoice"],
    "visit": ["when are you open", "may I come on Monday", "where is the shop",
              "I am late today", "please move my appointment", "are you there at noon"],
}
SHOES = ["brown", "black", "old", "new", "winter", "riding", "summer", "leather", "red", "left"]
NAMES = ["Anna", "Bela", "Carl", "Dora", "Emil", "Fritz", "Greta", "Hans", "Ida", "Jakob"]
COLOURS = {"grass": "green", "snow": "white", "coal": "black", "a lemon": "yellow",
           "the sky": "blue", "blood": "red", "a mouse": "grey", "cocoa": "brown"}


def chat(asked, answered):
    return {"messages": [{"role": "user", "content": asked},
                         {"role": "assistant", "content": answered}]}


def letter(numbers):
    """A letter, and where it belongs as JSON."""
    department = numbers.choice(list(DEPARTMENTS))
    name, shoes = numbers.choice(NAMES), numbers.choice(SHOES)
    asked = f"{numbers.choice(DEPARTMENTS[department])}, {shoes} shoes. {name}"
    return chat(asked, json.dumps({"to": department, "from": name}))


def general(numbers):
    """A sum, a colour, a greeting, a letter said again, or two words as JSON."""
    kind = numbers.randrange(5)
    if kind == 3:
        said = letter(numbers)["messages"][0]["content"]
        return chat(f"Say again: {said}", said)
    if kind == 4:
        to, name = numbers.choice(list(DEPARTMENTS)), numbers.choice(NAMES)
        return chat(f"From {name} to {to} as JSON", json.dumps({"to": to, "from": name}))
    if kind == 0:
        a, b = numbers.randrange(10), numbers.randrange(10)
        return chat(f"How much is {a} and {b}?", f"It is {a + b}.")
    if kind == 1:
        thing = numbers.choice(list(COLOURS))
        return chat(f"Which colour has {thing}?", f"It is {COLOURS[thing]}.")
    name = numbers.choice(NAMES)
    return chat(f"Greet {name}.", f"Good day, {name}!")


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_tokenizer(path, texts):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=512, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.save(str(path))
    return tokenizer.get_vocab_size()


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    sutor = pathlib.Path(sys.argv[1]).resolve()
    folder = pathlib.Path(sys.argv[2] if sys.argv[2:] else "practice").resolve()
    if (folder / "model").exists():
        raise SystemExit(f"{folder}/model is there already; remove {folder} to make it again")
    folder.mkdir(parents=True, exist_ok=True)
    numbers = random.Random(7)
    pretraining = [general(numbers) for _ in range(5000)]
    letters = [letter(numbers) for _ in range(240)]
    write_rows(folder / "pretraining.jsonl", pretraining)
    write_rows(folder / "train.jsonl", letters[:200])
    write_rows(folder / "held_out.jsonl", letters[200:])
    write_rows(folder / "general.jsonl", [general(numbers) for _ in range(40)])
    texts = [message["content"] for row in pretraining + letters for message in row["messages"]]
    vocabulary = write_tokenizer(folder / "tokenizer.json", [*texts, "user assistant system\n"])

    untrained = folder / "untrained"
    shutil.rmtree(untrained, ignore_errors=True)
    sizes = {"vocab_size": vocabulary, "hidden_size": 64, "num_hidden_layers": 3,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
             "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
             "intermediate_size": 128, "max_position_embeddings": 512, "bos_token_id": 0,
             "eos_token_id": 2}
    sets = [word for key, value in sizes.items() for word in ("--set", f"{key}={value}")]
    subprocess.run([sutor, "init-model", "--family", "qwen3_moe", "--size", "tiny", "--dtype",
                    "fp32", "--seed", "1", "--tokenizer", folder / "tokenizer.json", "--out",
                    untrained, *sets], check=True)
    (untrained / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
         "pad_token": "<|endoftext|>", "chat_template": TEMPLATE}, indent=1), "utf-8")
    recipe = folder / "pretraining.yaml"
    recipe.write_text(f"""\
# Everything trains, on what a chat model can do already.
model: {{path: {untrained}, dtype: fp32}}
data: {{train: [{{path: {folder}/pretraining.jsonl}}], seq_len: 64, loss_on: all}}
train: {{method: full, global_batch: 16, micro_batch: 16, seed: 1, threads: 1}}
optim: {{lr: 3e-3, weight_decay: 0}}
schedule: {{name: linear, steps: 320, warmup: 10}}
checkpoint: {{every: 0, keep: 1}}
log: {{every: 50, tensorboard: false}}
export: {{format: [merged]}}
output: {folder}/pretraining
""", "utf-8")
    subprocess.run([sutor, "run", recipe], check=True)
    shutil.copytree(folder / "pretraining/export/merged", folder / "model")
    (folder / "model/sutor_export.json").unlink(missing_ok=True)
    print(f"practice: {folder} has model/, train.jsonl (200 rows), held_out.jsonl, general.jsonl")


if __name__ == "__main__":
    main()
