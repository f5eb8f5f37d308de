"""Stretches of a text that are in the loss, and the parts that the encoder makes tokens of."""

import bisect
from typing import NamedTuple


class Span(NamedTuple):
    """[begin, end) in characters. holes: [(begin, end)] within it that are not in the loss.

    The model begins to write where a span begins, so that a token begins there, too, unless the
    span is soft: then the text is encoded as a whole, and a token that shares a character with a
    span is in the loss. Holes are always soft: what shares a character with one is not in the loss.
    """

    begin: int
    end: int
    holes: tuple = ()
    soft: bool = False


def without(span, places):
    """The span without these places, as far as they lie in it."""
    holes = tuple((max(begin, span.begin), min(end, span.end)) for begin, end in places
                  if begin < span.end and end > span.begin)
    return span._replace(holes=span.holes + holes) if holes else span


def _flags(spans, at=0):
    """[(begin, end, in the loss)], counted from `at`; the later ones overrule the earlier ones."""
    inside = [(span.begin - at, span.end - at, 1) for span in spans]
    return inside + [(b - at, e - at, 0) for span in spans for b, e in span.holes]


def parts_of_spans(text, spans):
    """A text with sorted spans as parts: (text, whether it is in the loss, or flags of stretches
    of it)."""
    if any(span.soft for span in spans):
        return [(text, _flags(spans))]
    parts, at = [], 0
    for span in spans:
        inside = _flags([span], span.begin) if span.holes else True
        parts += [(text[at : span.begin], False), (text[span.begin : span.end], inside)]
        at = span.end
    return parts + [(text[at:], False)]


def flags_of_tokens(offsets, flags):
    """1 for every token in the loss; offsets: of the tokens, in rising order."""
    begins, ends = [begin for begin, _ in offsets], [end for _, end in offsets]
    mask = [0] * len(offsets)
    for begin, end, trained in flags:
        if begin >= end:
            continue
        first = bisect.bisect_right(ends, begin)  # the first token that ends behind `begin`
        behind = bisect.bisect_left(begins, end)  # the first that begins at or behind `end`
        mask[first:behind] = [trained] * max(behind - first, 0)
    return mask
