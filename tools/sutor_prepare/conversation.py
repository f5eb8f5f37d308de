"""One conversation, rendered in parts and within limits."""

import time

from sutor_rows.normalize import refusal

from .chat import MAX_RENDERED
from .errors import PrepareError
from .limits import Limited, row_seconds
from .rows import check_encodable
from .text_marks import MarkedText, marked_message

MOST_CHARACTERS = 512 << 20  # of all renderings of a row
MOST_RENDERS = 60  # times the time of a single one, for all of a row together
# What the reader of rows notes in messages; templates do not see it.
WANTED, THINKING_WANTED = "_train", "_train_thinking"
NEXT_WORDS = "x"  # what is said behind an answer, to see what the template puts between them


class Conversation:
    """The messages of a row, and the template that renders them."""

    def __init__(self, templates, messages, tools, where, more=None):
        """more: further names that the template sees."""
        self.template = templates.of(tools)
        self.messages = [{key: value for key, value in message.items()
                          if key not in (WANTED, THINKING_WANTED)} for message in messages]
        self.where = where
        self._tools = tools
        self._more = more
        self._spent = 0.0
        self._characters = 0

    def render(self, count, generation_prompt=False):
        """Of the first `count` messages the text and the spans of {% generation %}."""
        text, spans = self._guarded(self.messages[:count], generation_prompt)
        check_encodable(text, "messages", self.where)
        return text, spans

    def marked(self, text, count):
        """A MarkedText of the first `count` messages, which render as `text`; None where marks
        change what the template renders."""
        for all_roles in (True, False):
            messages = [
                marked_message(message, number)
                if all_roles or message["role"] == "assistant"
                else message
                for number, message in enumerate(self.messages[:count])
            ]
            found = self._try(messages)
            if found is not None and found.text == text:
                return found
        return None

    def answered(self, number):
        """A MarkedText of the conversation up to a message and a short one behind it, of the role
        that follows or would follow; None where the template refuses that."""
        messages = self.messages[: number + 1]
        calls = messages[-1].get("tool_calls")
        if number + 1 < len(self.messages):
            following = self.messages[number + 1]
            extra = {key: following[key] for key in ("name", "tool_call_id") if key in following}
            role = following["role"]
        else:
            role, extra = ("tool", _called(calls)) if calls else ("user", {})
        behind = {**extra, "role": role, "content": NEXT_WORDS}
        messages = [*messages[:-1], marked_message(messages[-1], number),
                    marked_message(behind, number + 1)]
        return self._try(messages)

    def plainest(self):
        """A MarkedText of a question and an answer, message 1; None where that is refused."""
        words = [{"role": role, "content": NEXT_WORDS} for role in ("user", "assistant")]
        return self._try([marked_message(words[i], i) for i in range(2)])

    def _try(self, messages):
        try:
            return MarkedText(self._guarded(messages, False)[0])
        except PrepareError as error:
            if error.code == 504:
                raise
            return None

    def _guarded(self, messages, generation_prompt):
        begin = time.process_time()
        try:
            with Limited("the chat template", self.where):
                text, spans = self._render(messages, generation_prompt)
        except PrepareError:
            raise
        except Exception as error:  # of the template's own making, in one of many ways
            raise refusal(self._render, messages, error, self.where) from error
        self._spent += time.process_time() - begin
        if self._spent > MOST_RENDERS * row_seconds():
            raise PrepareError(
                504,
                f"the chat template took {self._spent:.0f} s of processor time for the messages "
                "of one row (SUTOR_ROW_SECONDS)",
                self.where,
            )
        self._characters += len(text)
        for size, most, what in (
            (len(text), MAX_RENDERED, "renders"),
            (self._characters, MOST_CHARACTERS, "renders, for all turns of one row together,"),
        ):
            if size > most:
                raise PrepareError(
                    504, f"the chat template {what} more than {most:,} characters", self.where
                )
        return text, spans

    def _render(self, messages, generation_prompt=False):
        return self.template.render(messages, self._tools, generation_prompt, self._more)


def _called(calls):
    """What a tool's answer says of the last call."""
    call = calls[-1] if isinstance(calls, list) and isinstance(calls[-1], dict) else {}
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else call.get("name")
    return {key: value for key, value in (("name", name), ("tool_call_id", call.get("id")))
            if isinstance(value, str)}
