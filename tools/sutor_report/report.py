"""Makes the report of all sets of a recipe, as one object that the pages print."""

import contextlib

import numpy as np

from sutor_store.workers import Workers

from . import duplicates, overlap
from .answers import TokenKinds
from .characters import SCRIPT_NAMES, UNSEEN_NAMES, CharacterCounter
from .documents import Store
from .measures import Measurer, joined
from .oddest import oddest

EXAMPLES = 5
EXCERPT = 240  # characters


def report_of(job, tokenizer):
    """tokenizer: a function that loads the ModelTokenizer. Returns a JSON object."""
    stores = [Store(each["kind"], each["name"], each["path"]) for each in job["stores"]]
    text = tokenizer() if any(store.tokenizer_digest for store in stores) else None
    for store in stores:
        if text and store.tokenizer_digest != text.digest:
            store.tokenizer_digest = ""  # made with another one, so it has no text here
    kinds = TokenKinds(text.tokenizer, text.eos_id) if text else None
    evaluation_sets = [store for store in stores if store.kind == "eval"]
    training_sets = [store for store in stores if store.kind == "train"]
    grams = [overlap.EvaluationGrams(store) for store in evaluation_sets if training_sets]
    measurer = Measurer(stores, grams, text, kinds, CharacterCounter())
    parts = [[] for _ in stores]
    blocks = (block for number, store in enumerate(stores) for block in store.blocks(number))
    workers = Workers(job["workers"])
    with contextlib.closing(workers.map(measurer.measured, blocks)) as results:
        for block, result in results:
            parts[block.store].append(result.measures)
            for each, found in zip(grams, result.found):
                each.found[found] = True
    measures = [joined(part) for part in parts]
    sets = [_set(store, each, job, text) for store, each in zip(stores, measures)]
    training = np.concatenate([each.hashes for store, each in zip(stores, measures)
                               if store.kind == "train"] or [np.empty(0, dtype=np.uint64)])
    by_store = {id(store): each for store, each in zip(stores, measures)}
    overlaps = [_overlap(store, by_store[id(store)], each, training, text)
                for store, each in zip(evaluation_sets, grams)]
    return {"seq_len": job["seq_len"], "too_long": job["too_long"], "sets": sets,
            "overlaps": overlaps, "producer": job["producer"]}


def _set(store, measures, job, text):
    tokens = measures.tokens
    has_text = bool(text and store.tokenizer_digest)
    exact = duplicates.repeated(measures.hashes)
    seen = min(len(store), duplicates.MOST_DOCUMENTS)
    near, pairs, all_compared = duplicates.nearly_repeated(
        _First(store, seen), measures.bands[:seen], exact[:seen])
    return {
        "kind": store.kind,
        "name": store.name,
        "documents": len(store),
        "tokens": int(tokens.sum()),
        "trained": int(measures.trained.sum()),
        "has_text": has_text,
        "characters": int(measures.characters.sum()),
        "length": {"least": int(tokens.min()), "median": int(np.median(tokens)),
                   "p95": int(np.percentile(tokens, 95, method="higher")),
                   "most": int(tokens.max()), "bins": _bins(tokens)},
        "too_long": int((tokens > job["seq_len"]).sum()),
        "without_loss": int((measures.trained == 0).sum()),
        "shares": _shares(measures.trained / tokens),
        "answers": int(measures.answers.sum()),
        "empty_answers": int(measures.empty.sum()),
        "open_ended": int(measures.open_ended.sum()),
        "unfinished": int(measures.unfinished.sum()),
        "cut_examples": _examples(store, measures, text),
        "exact_duplicates": int(exact.sum()),
        "near_duplicates": int(near.sum()),
        "near_complete": bool(all_compared and seen == len(store)),
        "near_examples": [[one + 1, other + 1, _excerpt(store, other, text)]
                          for one, other in pairs[:EXAMPLES]],
        "scripts": _named(SCRIPT_NAMES, measures.scripts.sum(axis=0)),
        "unseen": [[name, int(count), int((measures.unseen[:, i] > 0).sum())]
                   for i, (name, count) in enumerate(zip(UNSEEN_NAMES, measures.unseen.sum(axis=0)))
                   if count],
        "oddest": [[number + 1, reason, _excerpt(store, number, text)]
                   for number, reason in oddest(measures)],
    }


class _First:
    """The first documents of a store."""

    def __init__(self, store, count):
        self._count = count
        self.document = store.document

    def __len__(self):
        return self._count


def _bins(tokens):
    """[from, to, documents, tokens] by powers of two, from the first to the last that has any."""
    power = np.ceil(np.log2(tokens)).astype(np.int64)
    bins = []
    for each in range(int(power.min()), int(power.max()) + 1):
        inside = power == each
        low = (1 << (each - 1)) + 1 if each > 0 else 1
        bins.append([low, 1 << each, int(inside.sum()), int(tokens[inside].sum())])
    return bins


def _shares(shares):
    """Documents by the tenth of their tokens that is in the loss; the first: none at all."""
    tenths = np.bincount(np.minimum((shares * 10).astype(np.int64), 9)[shares > 0], minlength=10)
    return [int((shares == 0).sum())] + tenths.tolist()


def _named(names, counts):
    order = np.argsort(-counts, kind="stable")
    return [[names[i], int(counts[i])] for i in order.tolist() if counts[i]]


def _examples(store, measures, text):
    """The first documents of every kind: [number, what is wrong, the end of its text]."""
    kinds = ((measures.empty, "an empty answer"), (measures.open_ended, "no end token"),
             (measures.unfinished, "ends inside a sentence"))
    return [[number + 1, what, _excerpt(store, number, text, end=True)]
            for counts, what in kinds for number in np.flatnonzero(counts)[:3].tolist()]


def _excerpt(store, number, text, end=False):
    ids = store.document(number)[0]
    part = (ids[-EXCERPT:] if end else ids[:EXCERPT]).tolist()
    if text and store.tokenizer_digest:
        whole = text.tokenizer.decode(part, skip_special_tokens=False)
    else:
        whole = " ".join(map(str, part))
    if end:
        return ("..." if len(whole) > EXCERPT or len(ids) > EXCERPT else "") + whole[-EXCERPT:]
    return whole[:EXCERPT] + ("..." if len(whole) > EXCERPT or len(ids) > EXCERPT else "")


def _overlap(store, measures, grams, training, text):
    shares, of_answers = grams.shares()
    copies = np.isin(measures.hashes, training)
    known, answered = np.nan_to_num(shares, nan=0.0), np.nan_to_num(of_answers, nan=0.0)
    # Half of all alone may be an example in the prompt; half of the answer alone, its form.
    among = (known >= 0.5) & ((answered >= 0.5) | np.isnan(of_answers))
    order = np.lexsort((-known, -answered, ~(copies | among)))[:EXAMPLES].tolist()
    return {
        "name": store.name,
        "documents": len(store),
        "copies": int(copies.sum()),
        "any": int(((known > 0) | copies).sum()),
        "half": int(((known >= 0.5) | copies).sum()),
        "among": int((copies | among).sum()),
        "examples": [[number + 1, 1.0 if copies[number] else float(known[number]),
                      1.0 if copies[number] else float(answered[number]),
                      _excerpt(store, number, text)]
                     for number in order if copies[number] or known[number] > 0],
    }
