"""Answers: the runs of tokens in the loss. Empty ones, and those that were cut."""

import numpy as np

LONG = 64  # tokens of an answer that should end with a whole sentence
TAIL = 12  # tokens that are looked at, before the end token


class TokenKinds:
    """Of a vocabulary: which tokens are marks (added ones: roles, ends of turns, thinking), and
    which are blank."""

    def __init__(self, tokenizer, eos_id):
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        added = tokenizer.get_added_tokens_decoder()
        size = max([size, eos_id + 1] + [token + 1 for token in added])
        self.marks = np.zeros(size, dtype=bool)
        self.marks[[*added] + ([eos_id] if eos_id >= 0 else [])] = True
        texts = tokenizer.decode_batch([[token] for token in range(size)],
                                       skip_special_tokens=False)
        self.blank = np.array([not text.strip() for text in texts], dtype=bool)

    def of(self, flags, ids):
        return flags[np.minimum(ids, len(flags) - 1)] & (ids < len(flags))


def runs_of(mask, starts):
    """(begins, ends, documents) of the answers."""
    flags = np.concatenate([[0], mask.astype(np.int8), [0]])
    flags = np.insert(flags, starts[1:-1] + 1, 0)  # a run ends with its document
    edges = np.diff(flags)
    shift = np.searchsorted(starts[1:-1] + np.arange(len(starts) - 2), np.flatnonzero(edges == 1),
                            side="right")
    begins = np.flatnonzero(edges == 1) - shift
    shift_ends = np.searchsorted(starts[1:-1] + np.arange(len(starts) - 2),
                                 np.flatnonzero(edges == -1), side="left")
    ends = np.flatnonzero(edges == -1) - shift_ends
    return begins, ends, np.searchsorted(starts, begins, side="right") - 1


def look_at(ids, mask, starts, kinds, tokenizer):
    """For every document: answers, empty ones, such without an end token as their last, and long
    ones that end inside a sentence."""
    count = len(starts) - 1
    begins, ends, documents = runs_of(mask, starts)
    answers = np.bincount(documents, minlength=count)
    if kinds is None or len(begins) == 0:
        none = np.zeros(count, dtype=np.int64)
        return answers, none, none, none
    marks = kinds.of(kinds.marks, ids)
    said = ~(marks | kinds.of(kinds.blank, ids))
    spoken = np.add.reduceat(np.append(said, False), np.stack([begins, ends], axis=1).ravel())[::2]
    empty = np.bincount(documents[spoken == 0], minlength=count)
    open_end = ~marks[ends - 1]
    # Only the last answer of a document: others may end with a blank that the template puts there.
    last = np.append(documents[1:] != documents[:-1], True)
    open_ended = np.bincount(documents[open_end & last], minlength=count)
    long = np.flatnonzero((spoken >= LONG) & last)
    tails = [_words(ids, marks, max(begins[i], ends[i] - TAIL), ends[i]) for i in long]
    texts = tokenizer.decode_batch(tails, skip_special_tokens=False) if tails else []
    inside = [i for i, text in zip(long, texts) if ends_inside_a_sentence(text)]
    return answers, empty, open_ended, np.bincount(documents[inside], minlength=count)


def _words(ids, marks, begin, end):
    return ids[begin:end][~marks[begin:end]].tolist()


def ends_inside_a_sentence(text):
    """By its last character: a letter, a comma or an opening bracket."""
    last = text.rstrip()[-1:]
    return last.isalpha() or last in {",", "、", "，", "(", "[", "{", "-", "“", "‘", "/"}
