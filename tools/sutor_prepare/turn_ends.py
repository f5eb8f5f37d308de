"""The token that ends a turn: what the template puts behind what a message says.

Of a template whose turns end with no token of their own (GLM-4.5) it is the one that opens the next
turn, which depends on who speaks next: behind a call of a tool that is the tool.
"""

from collections import Counter

from .ends import COUNTED
from .text_marks import texts_of


def _last(pattern, text, begin, end):
    found = None
    for found in pattern.finditer(text, begin, end):
        pass
    return found


class TurnEnds:
    """Finds the ends of turns, and counts them. tokenizer: an encode.ModelTokenizer."""

    def __init__(self, tokenizer):
        self._id_of = tokenizer.tokenizer.token_to_id
        self._special = tokenizer.special_pattern
        self._known = tokenizer.end_pattern
        self._openings = {}
        self._own_stops = {}  # of a template: whether it ends turns itself
        self.trained = Counter()  # texts of the tokens that end turns in the loss
        self.without = 0  # trained turns that do not end with a special token

    def take_counts(self):
        """What was counted since the last call."""
        counts = {"turns_without_stop": self.without}
        counts |= {f"{COUNTED}{self._id_of(text)}": count for text, count in self.trained.items()}
        self.without = 0
        self.trained.clear()
        return counts

    def behind(self, text, at):
        """The end of a special token at a place, or the place."""
        found = self._special.match(text, at)
        return found.end() if found else at

    def note(self, text, begin, end):
        """Counts the end of a stretch in the loss that a template has marked."""
        end = begin + len(text[begin:end].rstrip())
        found = _last(self._special, text, begin, end)
        self._count(found[0] if found and found.end() == end else None)

    def _count(self, token):
        if token is None:
            self.without += 1
        else:
            self.trained[token] += 1

    def of(self, talk, marked, text, i, begin, end):
        """Message i of talk is text[begin:end]; marked: gives the MarkedText of it, or None.
        Returns the end of what is in the loss, and the text, perhaps with a token appended."""
        tail = self._unsaid_end(talk, text, i, begin, end)
        stop = self._own_stop(talk, text, tail, end)
        if stop is None:
            marked = marked()
            tail = self._tail(marked, text, i, begin, end)
            stop = self._own_stop(talk, text, tail, end)
        if stop is not None:
            self._count(stop[0])
            return stop.end(), text
        if end < len(text):
            stop = self._special.match(text, end)
            said = marked.places(i + 1) if marked else []
            if stop is not None and said and stop.end() > said[0][0]:
                stop = None  # the next message says it
            self._count(stop[0] if stop else None)
            return stop.end() if stop else end, text
        opening = self._opening(talk, i, text[tail:end])
        self._count(opening)
        return end + len(opening or ""), text + (opening or "")

    def _own_stop(self, talk, text, tail, end):
        """The last token of the template's own words behind a message that ends a turn."""
        stop = _last(self._known, text, tail, end)
        if stop is None and self._special.search(text, tail, end) and self._ends_turns(talk):
            stop = _last(self._special, text, tail, end)
        return stop

    def _unsaid_end(self, talk, text, i, begin, end):
        """Where a special token is that is the last word of text[begin:end], of a message that has
        no text of such a token; else the end. It saves a rendering."""
        stop = _last(self._special, text, begin, end)
        if stop is None or text[stop.end() : end].strip():
            return end
        said = any(self._special.search(each) for each in texts_of(talk.messages[i]))
        return end if said else stop.start()

    def _tail(self, marked, text, i, begin, end):
        """Where what the template puts behind the words of message i begins."""
        if marked is not None:
            places = marked.places(i, before=end)
            return max(places[-1][1], begin) if places else begin
        # Nothing is known but that what stands at the very end may be the template's.
        stop = _last(self._special, text, begin, end)
        return stop.start() if stop and not text[stop.end() : end].strip() else end

    def _ends_turns(self, talk):
        """Whether the template puts a special token behind a plain answer."""
        key = id(talk.template)
        if key not in self._own_stops:
            found = talk.plainest()
            places = found.places(1) if found else []
            self._own_stops[key] = (
                not places or self._special.search(found.text, places[-1][1]) is not None
            )
        return self._own_stops[key]

    def _opening(self, talk, i, tail):
        """The special token that opens the turn behind message i; None without one."""
        calls = bool(talk.messages[i].get("tool_calls"))
        following = talk.messages[i + 1]["role"] if i + 1 < len(talk.messages) else None
        key = id(talk.template), calls, following, tail
        if key not in self._openings:
            self._openings[key] = self._look_behind(talk, i, tail)
        return self._openings[key]

    def _look_behind(self, talk, i, tail):
        found = talk.answered(i)
        said = found.places(i + 1) if found else []
        if not said:
            return None
        before = found.places(i, before=said[0][0])
        at = before[-1][1] if before else found.text.rfind(tail, 0, said[0][0])
        if at < 0 or not found.text.startswith(tail, at):
            return None
        opening = self._special.match(found.text, at + len(tail), said[0][0])
        return opening[0] if opening else None
