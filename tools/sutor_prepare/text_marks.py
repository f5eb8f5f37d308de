"""Finds where a chat template puts what a message says.

Every text of a message is enclosed in marks before it is rendered. They are half surrogates, which
no row may hold, and stand within its blanks, so that a template that strips a text strips it all
the same. A template that looks into what it renders may render something else with marks; then
they tell nothing, and the caller is told so.
"""

import copy
import re

CONTENT, THINKING, CALL = "c", "t", "k"
_BEGIN, _END = "\udffe", "\udfff"
_MARK = re.compile("\ud801([ctk])(\\d+)([\udffe\udfff])")
# Thinking that stands in the content: templates take out what is before its last end. It may lack
# the beginning, which was part of the prompt.
_INLINE = re.compile(r"(\s*(?:<think>)?)(.*)(</think>)(.*)\Z", re.DOTALL)
THINKING_KEYS = ("reasoning_content", "thinking", "reasoning")


def _enclosed(text, kind, number):
    core = text.strip()
    if not core:
        return text
    at = text.index(core)
    begin, end = (f"\ud801{kind}{number}{edge}" for edge in (_BEGIN, _END))
    return f"{text[:at]}{begin}{core}{end}{text[at + len(core) :]}"


def _each_text(value, kind, number):
    """The same for all texts within a value of JSON, keys among them."""
    if isinstance(value, str):
        return _enclosed(value, kind, number)
    if isinstance(value, list):
        return [_each_text(item, kind, number) for item in value]
    if isinstance(value, dict):
        return {
            _enclosed(key, kind, number): _each_text(item, kind, number)
            for key, item in value.items()
        }
    return value


def _content(value, number, speaks):
    """speaks: whether it is the model's, so that it may begin with thinking."""
    if isinstance(value, list):  # of parts, whose types a template reads
        return [
            {**part, "text": _enclosed(part["text"], CONTENT, number)}
            if isinstance(part, dict) and isinstance(part.get("text"), str)
            else part
            for part in value
        ]
    if not isinstance(value, str):
        return value
    inline = _INLINE.match(value) if speaks else None
    if not inline:
        return _enclosed(value, CONTENT, number)
    opening, thinking, closing, rest = inline.groups()
    thinking = _enclosed(thinking, THINKING, number)
    return opening + thinking + closing + _enclosed(rest, CONTENT, number)


def _call(call, number):
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return call
    marked = {key: _each_text(function[key], CALL, number)
              for key in ("name", "arguments") if key in function}
    if "function" in call:
        return {**call, "function": {**function, **marked}}
    return {**call, **marked}


def marked_message(message, number):
    """A copy of a message, of that number in its conversation, with its texts enclosed."""
    speaks = message.get("role") == "assistant"
    copy = dict(message)
    if "content" in copy:
        copy["content"] = _content(copy["content"], number, speaks)
    if speaks:
        for key in THINKING_KEYS:
            if isinstance(copy.get(key), str):
                copy[key] = _enclosed(copy[key], THINKING, number)
        if isinstance(copy.get("tool_calls"), list):
            copy["tool_calls"] = [_call(call, number) for call in copy["tool_calls"]]
    return copy


def texts_of(value):
    """All texts within a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


class MarkedText:
    """A rendered text, and where in it the texts of its messages are."""

    def __init__(self, marked):
        self._places = {}  # message -> [(kind, begin, end)], in order
        pieces, length, at, opened = [], 0, 0, {}
        for mark in _MARK.finditer(marked):
            pieces.append(marked[at : mark.start()])
            length += len(pieces[-1])
            at = mark.end()
            kind, number = mark[1], int(mark[2])
            if mark[3] == _BEGIN:
                opened[kind, number] = length
            elif (kind, number) in opened:
                begin = opened.pop((kind, number))
                self._places.setdefault(number, []).append((kind, begin, length))
        pieces.append(marked[at:])
        self.text = "".join(pieces)

    def shifted(self, by):
        """The same places in a text of which only the beginning is another."""
        other = copy.copy(self)
        other._places = {number: [(kind, begin + by, end + by) for kind, begin, end in places]
                         for number, places in self._places.items()}
        return other

    def places(self, number, kind=None, before=None):
        """[(begin, end)] of a message's texts, of one kind or all, that end before a place."""
        return [
            (begin, end)
            for its, begin, end in self._places.get(number, [])
            if kind in (None, its) and (before is None or end <= before)
        ]
