#!/usr/bin/env python3
"""Rows -> token stores. Run by `sutor prepare`, which reads the recipe:

    prepare.py JOB      JOB: a JSON object with model, tokenizer, template, loss_on, seq_len,
                        too_long, show (documents of each set), ids (show them, too), colour,
                        workers (0: one a processor, up to 16), strict (the first row that cannot
                        be used ends it), producer, sources: a list of {kind, path, files, format,
                        columns, name, out} and, of a split, {share, side: train or held_out},
                        report (a file for an HTML page about the data, or "") and stores, the sets
                        that it is about: a list of {kind, name, path}

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

MOST_WORKERS = 16  # without being asked for more: one process reads and writes for all


def summary(done, spec, job):
    """done: a DataSet."""
    counts = done.counts
    line = (
        f"{spec['kind']} {spec['name']}: {done.reader.rows:,} rows ({done.format}"
        f"{', guessed' if done.guessed else ''}) -> {done.documents:,} documents, "
        f"{done.tokens:,} tokens, {100 * done.supervised / done.tokens:.1f}% in loss; "
        f"{counts['longer_than_seq_len']:,} longer than {job['seq_len']:,} tokens "
        f"({'split' if spec['kind'] == 'eval' else job['too_long']}), {counts['all_masked']:,} "
        f"all masked, {counts['empty']:,} empty dropped"
    )
    notes = [note for note in [done.side.note(done.own_rows, done.reader.rows)] if note]
    if done.resumed:
        notes.append(
            f"went on behind {done.resumed:,} documents of a job that was stopped"
        )
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
    if differs := done.ends_disagree():
        notes.append(f"warning[W0112]: {differs}")
    notes += done.row_notes()
    return "\n".join([line] + ["  " + note for note in notes])


def cost(done, spec):
    """What differs from run to run, and does not belong among the results."""
    workers = done.processes()
    return (f"{spec['kind']} {spec['name']}: {done.seconds:.1f} s, {workers} "
            f"worker{'s' if workers > 1 else ''}, at most {done.peak_memory() >> 20:,} MiB of "
            "memory")


def run(job):
    from sutor_prepare.chat import read_json
    from sutor_store.data_set import DataSet
    from sutor_prepare.encode import ModelTokenizer, vocabulary_of
    from sutor_store.look import Look
    from sutor_store.staging import remove_others
    from sutor_prepare.templates import find_template

    tokenizer = once(lambda: ModelTokenizer(job["tokenizer"], job["model"]))
    template = once(
        lambda: find_template(job["template"], tokenizer().folders, tokenizer().special_tokens)
    )
    job = {"ids": False, "workers": 0, "report": "", "strict": False, **job}
    job["model_vocab"] = vocabulary_of(read_json(os.path.join(job["model"], "config.json")))
    job["workers"] = job["workers"] or min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    remove_others([spec["out"] for spec in job["sources"]])
    for spec in job["sources"]:
        done = DataSet(job, spec, tokenizer, template)
        done.run(lambda documents: Look(job, done.tokenizer).show(spec["name"], documents))
        print(summary(done, spec, job), flush=True)
        print(cost(done, spec), file=sys.stderr, flush=True)
    if job["report"]:
        write_report(job, tokenizer)


def write_report(job, tokenizer):
    from sutor_prepare.lines import write_text
    from sutor_report.html_page import html_page
    from sutor_report.report import report_of
    from sutor_report.text_page import text_page

    report = report_of(job, tokenizer)
    write_text(job["report"], html_page(report))
    print(text_page(report))
    print(f"\n-> {job['report']}", flush=True)


if __name__ == "__main__":
    # Processes do the work of threads: workers.py.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run_step(run, "tokenizers, jinja2, h5py and numpy"))
