#!/usr/bin/env python3
"""Rows -> token stores. Run by `sutor prepare`, which reads the recipe:

    prepare.py JOB      JOB: a JSON object with model, tokenizer, template, loss_on, seq_len,
                        too_long, show, colour, producer, and sources: a list of {kind, path,
                        format, name, out}

Formats of rows (JSON lines), distinguished by their keys:
    messages             the chat template renders them; assistant turns are in the loss, with the
                         token that ends a turn; `mask: 1` or `train: false` in a message excludes
                         it; loss_on last (or completion): the last assistant turn; all: everything
    prompt, completion   plain text; the completion and the end token are in the loss (all: both)
    text                 plain text; everything is in the loss
    input_ids, labels    tokens as they are; labels of -100 are not in the loss
text and completion rows begin with the tokenizer's begin token, if it adds one, and end with its
end token. Documents are not split here: data.seq_len and data.too_long apply when they are used.
"""

import os
import sys

from sutor_prepare.step import once, run_step


def summary(source, spec, job):
    writer, counts = source.writer, source.counts
    line = (
        f"{spec['kind']} {spec['name']}: {source.reader.rows:,} rows ({source.format}"
        f"{', guessed' if source.guessed else ''}) -> {writer.documents:,} documents, "
        f"{writer.tokens:,} tokens, {100 * writer.supervised / writer.tokens:.1f}% in loss; "
        f"{counts['longer_than_seq_len']:,} longer than {job['seq_len']:,} tokens "
        f"({'split' if spec['kind'] == 'eval' else job['too_long']}), {counts['all_masked']:,} "
        f"all masked, {counts['empty']:,} empty dropped; {source.seconds:.1f} s"
    )
    notes = []
    if counts.get("rows_as_turns"):
        notes.append(
            f"{counts['rows_as_turns']:,} rows became one document an assistant turn, as the "
            "template rewrites earlier turns"
        )
    if counts.get("turns_without_stop"):
        notes.append(
            f"warning[W0107]: {counts['turns_without_stop']:,} assistant turns end without an "
            "end-of-turn token in the loss. The model may not learn to stop"
        )
    if counts["special_in_text"]:
        notes.append(
            f"warning[W0108]: {counts['special_in_text']:,} rows hold the text of a special token, "
            "which becomes that token"
        )
    if counts["with_own_ends"]:
        notes.append(
            f"warning[W0113]: {counts['with_own_ends']:,} rows have the begin or end token "
            "themselves, so that it is not added: it would stand twice"
        )
    if differs := source.ends_disagree():
        notes.append(f"warning[W0112]: {differs}")
    return "\n".join([line] + ["  " + note for note in notes])


def marked(ids, mask, tokenizer, colour):
    """A document as text, with the tokens in the loss in green or in [[ ]]."""
    begin, end = ("\x1b[32m", "\x1b[0m") if colour else ("[[", "]]")
    text, at = "", 0
    while at < len(ids):
        stop = at
        while stop < len(ids) and mask[stop] == mask[at]:
            stop += 1
        run = ids[at:stop]
        part = (
            tokenizer.tokenizer.decode(run, skip_special_tokens=False)
            if tokenizer
            else " ".join(map(str, run))
        )
        text += f"{begin}{part}{end}" if mask[at] else part
        if tokenizer is None and stop < len(ids):
            text += " "
        at = stop
    return text


def show(source, spec, tokenizer, colour):
    for number, (ids, mask) in enumerate(source.shown, 1):
        print(
            f"--- {spec['name']}, document {number}: {len(ids):,} tokens, {sum(mask):,} in loss "
            f"({'green' if colour else 'in double brackets'})"
        )
        print(marked(ids, mask, tokenizer, colour))


def run(job):
    from sutor_prepare.chat import read_json
    from sutor_prepare.encode import ModelTokenizer, vocabulary_of
    from sutor_prepare.source import Source
    from sutor_prepare.templates import find_template

    tokenizer = once(lambda: ModelTokenizer(job["tokenizer"], job["model"]))
    template = once(
        lambda: find_template(job["template"], tokenizer().folders, tokenizer().special_tokens)
    )
    job["model_vocab"] = vocabulary_of(read_json(os.path.join(job["model"], "config.json")))
    for spec in job["sources"]:
        source = Source(job, spec, tokenizer, template)
        source.run()
        print(summary(source, spec, job), flush=True)
        show(source, spec, tokenizer() if source.format != "tokens" else None, job["colour"])


if __name__ == "__main__":
    sys.exit(run_step(run, "tokenizers, jinja2, h5py and numpy"))
