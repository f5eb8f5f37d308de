#!/usr/bin/env python3
"""Facts about rows, for `sutor init`, which prints no recipe without them:

    row_facts.py JOB    JOB: a JSON object with model, tokenizer, template, loss_on, seconds (of
                        tokenising, for each set), shares (of rows that may be held out), sources:
                        a list of {path, files, format}

Prints a JSON object: {"sources": a dict a set (sutor_facts/facts.py)}. Errors are those of
prepare.py.
"""

import json
import os
import sys

from sutor_prepare.step import once, run_step


def run(job):
    from sutor_facts.facts import Facts
    from sutor_prepare.chat import read_json
    from sutor_prepare.encode import ModelTokenizer, vocabulary_of
    from sutor_prepare.templates import find_template

    tokenizer = once(lambda: ModelTokenizer(job["tokenizer"], job["model"]))
    template = once(
        lambda: find_template(job["template"], tokenizer().folders, tokenizer().special_tokens)
    )
    config = read_json(os.path.join(job["model"], "config.json"))
    job = {"seq_len": 1 << 62, "model_vocab": vocabulary_of(config), **job}
    facts = [Facts(job, spec, tokenizer, template).read() for spec in job["sources"]]
    print(json.dumps({"sources": facts}))


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run_step(run, "tokenizers, jinja2, h5py and numpy"))
