"""Prints documents for people: as text, with the tokens that train marked, and their ids."""

import re

GREEN, DIM, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"
# What would move the cursor, colour the rest or hide text of a terminal; not line feed and tab.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)

FIRST_SHOWN, LAST_SHOWN = 600, 400  # tokens of a document


def seen(text):
    """Characters that a terminal obeys instead of showing, as escapes."""
    return UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def runs_of(mask):
    """(begin, end, flag) of runs of equal flags."""
    begin = 0
    for at in range(1, len(mask) + 1):
        if at == len(mask) or mask[at] != mask[begin]:
            yield begin, at, mask[begin]
            begin = at


def cut(count):
    """The parts of a document of so many tokens that are shown: of a long one the beginning and the
    end, where the answer is."""
    if count <= FIRST_SHOWN + LAST_SHOWN:
        return [(0, count)]
    return [(0, FIRST_SHOWN), (count - LAST_SHOWN, count)]


class Look:
    """tokenizer: a ModelTokenizer, or None: then ids stand for themselves."""

    def __init__(self, job, tokenizer):
        self._tokenizer = tokenizer
        self._ids = job["ids"]
        self._colour = job["colour"]
        self._marks = (GREEN, PLAIN) if self._colour else ("[[", "]]")

    def show(self, name, documents):
        """documents: a list of (ids, mask)."""
        marked = "in green" if self._colour else "in double brackets"
        for number, (ids, mask) in enumerate(documents, 1):
            print(
                f"--- {name}, document {number}: {len(ids):,} tokens, {sum(mask):,} in loss "
                f"({marked}: what the model learns to write)"
            )
            parts = cut(len(ids))
            print(self._joined(self.marked, ids, mask, parts))
            if self._ids and self._tokenizer:
                print(self._dim("ids: ") + self._joined(self._numbers, ids, mask, parts))
        if documents:
            print(end="", flush=True)

    def _joined(self, form, ids, mask, parts):
        texts = [form(ids[begin:end], mask[begin:end]) for begin, end in parts]
        if len(texts) == 1:
            return texts[0]
        left_out = self._dim(f"... {parts[1][0] - parts[0][1]:,} tokens are not shown ...")
        return f"{texts[0]}\n{left_out}\n{texts[1]}"

    def marked(self, ids, mask):
        """A document as text, with the tokens in the loss in green or in [[ ]]."""
        if self._tokenizer is None:
            return self._numbers(ids, mask)
        begin_mark, end_mark = self._marks
        text = ""
        for begin, end, flag in runs_of(mask):
            part = seen(self._tokenizer.tokenizer.decode(ids[begin:end],
                                                         skip_special_tokens=False))
            text += f"{begin_mark}{part}{end_mark}" if flag else part
        return text

    def _numbers(self, ids, mask):
        begin_mark, end_mark = self._marks
        parts = []
        for begin, end, flag in runs_of(mask):
            part = " ".join(map(str, ids[begin:end]))
            parts.append(f"{begin_mark}{part}{end_mark}" if flag else part)
        return " ".join(parts)

    def _dim(self, text):
        return f"{DIM}{text}{PLAIN}" if self._colour else text
