#!/usr/bin/env python3
"""Speed and memory of tools/prepare.py beside the tokenizer library's own speed on the same texts.

  .venv/bin/python tests/bench/prepare_bench.py [--mb N] [--workers N] [--rounds N] [--chat]
      [--tokenizer FILE] [--text FILE...] [--work DIR]

Makes rows of --mb million bytes of random stretches of real text (by default this repository's
own), and in every round, in turns first, encodes their texts with encode_batch_fast on as many
threads as prepare.py gets workers, and runs prepare.py on the rows. The library's time is that of
its calls alone; prepare.py's is that of the whole process: start, reading, parsing, masks, writing,
checksums. Prints a line of JSON: million bytes of text a second of both, the ratio of the rounds in
seconds of the clock and of processor time, and the peak memory. On a machine with other work the
ratio of processor time is the one that means something.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = 0.80
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LIBRARY = """
import json, resource, sys, time, tokenizers
tokenizer, rows = tokenizers.Tokenizer.from_file(sys.argv[1]), sys.argv[2]
def processor():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
seconds = used = 0
with open(rows, encoding="utf-8") as stream:
    while lines := stream.readlines(8 << 20):
        texts = [text for line in lines for text in json.loads(line)]
        begin, before = time.perf_counter(), processor()
        tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        seconds += time.perf_counter() - begin
        used += processor() - before
print(json.dumps([seconds, used]))
"""


def own_texts():
    names = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("checkpoint/*.md")]
    for folder in ("csrc", "launch", "layers", "tools", "tests"):
        names += [*ROOT.glob(f"{folder}/**/*.cc"), *ROOT.glob(f"{folder}/**/*.py")]
    return sorted(names)


def make_rows(work, options):
    """rows.jsonl for prepare.py, and texts.jsonl with what the library encodes: a list a line."""
    content = "\n".join(path.read_text(encoding="utf-8", errors="replace")
                        for path in options.text or own_texts())
    numbers = random.Random(1)
    made = 0

    def stretch(most):
        begin = numbers.randrange(max(len(content) - most, 1))
        return f"{numbers.randrange(10**6)} {content[begin : begin + numbers.randint(50, most)]}"

    with open(work / "rows.jsonl", "w", encoding="utf-8") as rows, open(
            work / "texts.jsonl", "w", encoding="utf-8") as texts:
        while made < options.mb * 1_000_000:
            parts = [stretch(1500), stretch(1500)] if options.chat else [stretch(4000)]
            made += sum(len(part.encode("utf-8")) for part in parts)
            row = {"text": parts[0]}
            if options.chat:
                row = {"messages": [{"role": role, "content": part}
                                    for role, part in zip(("user", "assistant"), parts)]}
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
            texts.write(json.dumps(parts, ensure_ascii=False) + "\n")
    return made


def make_model(work, options):
    if options.tokenizer:
        tokenizer = tokenizers.Tokenizer.from_file(str(options.tokenizer))
    else:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        tokenizer.train([str(path) for path in own_texts()], tokenizers.trainers.BpeTrainer(
            vocab_size=16000, show_progress=False, special_tokens=["<|im_start|>", "<|im_end|>"],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.save(str(work / "tokenizer.json"))
    (work / "tokenizer_config.json").write_text("{}")
    (work / "config.json").write_text("{}")
    (work / "chat_template.jinja").write_text(TEMPLATE)


def run_library(work, options):
    environment = dict(os.environ, TOKENIZERS_PARALLELISM="true",
                       RAYON_NUM_THREADS=str(options.workers))
    done = subprocess.run([sys.executable, "-c", LIBRARY, work / "tokenizer.json",
                           work / "texts.jsonl"], check=True, capture_output=True, text=True,
                          env=environment)
    return json.loads(done.stdout)


def run_prepare(work, options):
    """(seconds, processor seconds, peak MiB as prepare.py says it)."""
    source = {"kind": "train", "path": str(work / "rows.jsonl"), "format": "auto", "name": "rows",
              "out": str(work / "rows.tokens.h5")}
    job = {"model": str(work), "tokenizer": "auto", "template": "auto", "loss_on": "assistant",
           "seq_len": 4096, "too_long": "drop", "show": 0, "colour": False, "producer": "bench",
           "workers": options.workers, "sources": [source]}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-B", str(ROOT / "tools" / "prepare.py"),
                           json.dumps(job)], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(done.stderr.partition("at most ")[2].split(" MiB")[0].replace(",", ""))
    return seconds, used, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, nargs="+")
    parser.add_argument("--work", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = pathlib.Path(folder)
        make_model(work, options)
        megabytes = make_rows(work, options) / 1e6
        library, prepared = [], []
        for number in range(options.rounds):
            order = [(run_library, library), (run_prepare, prepared)]
            for measure, results in order if number % 2 == 0 else reversed(order):
                results.append(measure(work, options))
    ratios = [mine[0] / own[0] for own, mine in zip(prepared, library)]
    processor = [mine[1] / own[1] for own, mine in zip(prepared, library)]
    print(json.dumps({
        "mb": round(megabytes), "workers": options.workers,
        "rows": "messages" if options.chat else "text",
        "library_mb_s": round(megabytes / statistics.median(each[0] for each in library), 2),
        "prepare_mb_s": round(megabytes / statistics.median(each[0] for each in prepared), 2),
        "ratio": round(statistics.median(ratios), 3), "ratios": [round(r, 3) for r in ratios],
        "processor_ratio": round(statistics.median(processor), 3),
        "peak_mib": max(each[2] for each in prepared), "target": TARGET,
    }))


if __name__ == "__main__":
    main()
