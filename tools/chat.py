#!/usr/bin/env python3
"""The text side of `sutor chat`: conversations -> token ids, and generated ids -> text. Stays and
answers; run by sutor:

    chat.py JOB         JOB: a JSON object with
        model           model directory
        tokenizer       auto (the model's), a tokenizer.json, or a folder with one
        template        chat template: auto, none, a jinja file, or the name of one of the model's

Says {"template": true or false} first: whether there is a chat template. Then one JSON value a line
comes on stdin, and one goes out on stdout for each:

    {"messages": [...]}   {"ids", "end_tokens"}: the prompt of the next turn, as prompts.py makes it
    {"prompt": text}      the same of a plain text, for models without a template
    {"decode": ids}       {"text"}; special tokens leave no text

or {"error": text} for what cannot be rendered or encoded, after which it goes on.
"""

import json
import os
import sys

from sutor_prepare.step import once, run_step


def load(job):
    from sutor_prepare.encode import ModelTokenizer
    from sutor_prepare.templates import find_template

    tokenizer = once(lambda: ModelTokenizer(job["tokenizer"], job["model"]))
    template = once(
        lambda: find_template(job["template"], tokenizer().folders, tokenizer().special_tokens)
    )
    return tokenizer, template


class Answers:
    def __init__(self, job):
        from sutor_prepare.chat import read_json
        from sutor_prepare.encode import Encoder, vocabulary_of

        self._tokenizer, self._template = load(job)
        self._job = {**job, "format": "auto"}
        self._encoder = Encoder(self._tokenizer())
        self._vocab = vocabulary_of(read_json(os.path.join(job["model"], "config.json")))

    def has_template(self):
        return self._template() is not None

    def of(self, request):
        if "decode" in request:
            ids = request["decode"]
            text = self._tokenizer().tokenizer.decode(ids, skip_special_tokens=True)
            return {"text": text}
        return self._prompt(request)

    def _prompt(self, row):
        from sutor_prepare import rows as row_kinds
        from sutor_prompts.prompt_rows import PromptMaker

        # A maker for each: another turn may have another form, when a call of a tool is in it.
        maker = PromptMaker(self._job, self._tokenizer, self._template)
        parts, _, _ = maker.of(row, "the conversation")
        [(ids, _)] = self._encoder.encode([parts], "the conversation")
        row_kinds.check_vocabulary(ids, self._vocab, "the conversation")
        return {"ids": list(ids), "end_tokens": sorted(maker.end_tokens())}


def run(job):
    from sutor_prepare.errors import PrepareError

    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # of what a library prints

    def say(value):
        channel.write(json.dumps(value) + "\n")
        channel.flush()

    answers = Answers(job)
    say({"template": answers.has_template()})
    for line in sys.stdin:
        try:
            say(answers.of(json.loads(line)))
        except PrepareError as error:
            say({"error": error.report()})


if __name__ == "__main__":
    sys.exit(run_step(run, "tokenizers and jinja2"))
