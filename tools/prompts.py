#!/usr/bin/env python3
"""Rows -> prompts as token ids, and generated ids -> completions. Run by sutor where it generates:

    prompts.py JOB      JOB: a JSON object with
        action          encode or decode
        model           model directory
        tokenizer       auto (the model's), a tokenizer.json, or a folder with one
      encode:
        template        chat template: auto, none or a jinja file
        rows, format    file of JSON lines; format: auto, messages, prompt (or completion), text or
                        tokens
        max_prompt_tokens, too_long
                        longer prompts are dropped (drop), or lose their beginning except for the
                        begin token (left); 0: no limit
        out             file for lines of {"ids", "example": {"prompt", "raw_answers"}}
      decode:
        generated       file of such lines, with the generated ids alone
        stop_ids        the first of these ends a text
        out             file for lines of {"example": {"prompt", "raw_prediction", "raw_answers"},
                        "score": null}

Kinds of rows, distinguished by their keys:
    input_ids    the prompt's tokens as they are (labels are ignored); needs no tokenizer
    messages     what is before the last assistant turn, rendered with the generation prompt; that
                 turn is the answer. All of a conversation that ends otherwise is rendered
    prompt       plain text, such as the ESFT authors' rows of `prompt` and `raw_answers`; the
                 `completion` of training rows is the answer
    text         plain text, all of it
Plain text begins with the tokenizer's begin token, if it adds one. Answers are what a row has under
`raw_answers` or `answers`, a text or a list; the lists may be empty.
Prints one JSON object of counts to stdout; that of encode has the tokenizer's eos_id (-1: none) and
end_tokens: all ids at which the model's files, the tokenizer and the chat template end a text.
"""

import json
import os
import sys

from sutor_prepare.step import once, run_step


def encode(job):
    from sutor_prepare.chat import read_json
    from sutor_prepare.encode import ModelTokenizer, vocabulary_of
    from sutor_prepare.lines import write_json_lines
    from sutor_prepare.templates import find_template
    from sutor_prompts.encode_prompts import PromptSource, result_of

    tokenizer = once(lambda: ModelTokenizer(job["tokenizer"], job["model"]))
    template = once(
        lambda: find_template(job["template"], tokenizer().folders, tokenizer().special_tokens)
    )
    model_vocab = vocabulary_of(read_json(os.path.join(job["model"], "config.json")))
    source = PromptSource(job, tokenizer, template, model_vocab)
    write_json_lines(job["out"], source)
    return result_of(source, None if source.format == "tokens" else tokenizer())


def decode(job):
    from sutor_prepare.encode import ModelTokenizer
    from sutor_prepare.lines import write_json_lines
    from sutor_prompts.decode_answers import AnswerSource

    tokenizer = ModelTokenizer(job["tokenizer"], job["model"])
    source = AnswerSource(job["generated"], tokenizer, job["stop_ids"])
    write_json_lines(job["out"], source)
    return source.counts


def run(job):
    actions = {"encode": encode, "decode": decode}
    print(json.dumps(actions[job["action"]](job)))


if __name__ == "__main__":
    sys.exit(run_step(run, "tokenizers and jinja2"))
