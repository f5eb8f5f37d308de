#!/usr/bin/env python3
"""Rows -> token stores. Run by `sutor prepare`, which reads the recipe:

    prepare.py JOB      JOB: a JSON object with model, tokenizer, template, loss_on, seq_len,
                        too_long, show, strict (the first row that cannot be used ends it), colour,
                        producer, and sources: a list of {kind, path, files, format, columns, name,
                        out} and, of a split, {share, side: train or held_out}

What rows may look like: sutor_rows/row_forms.py; in which files: sutor_rows/reader.py; which keys
mean what: sutor_rows/row_keys.py. In the loss are
    of a conversation    assistant turns, with the token that ends a turn, unless a message says
                         otherwise; loss_on last (or completion): the last one; all: everything
    of a completion      the completion and the end token (all: the prompt, too)
    of a text            everything
    of tokens            what labels and masks say
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
    notes = [note for note in [source.side.note(source.own_rows, source.reader.rows)] if note]
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
    if counts["framed_before"]:
        notes.append(
            f"warning[W0113]: {counts['framed_before']:,} rows have the begin or end token "
            "themselves, so that it is not added: it would stand twice"
        )
    if differs := source.ends_disagree():
        notes.append(f"warning[W0112]: {differs}")
    notes += source.row_notes()
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
