"""Which characters of a rendered conversation are in the loss.

With {% generation %} marks in the template: what they enclose. Else by prefix difference: the text
of an assistant turn is what the conversation up to it renders beyond the generation prompt before
it. Where a template rewrites earlier turns (thinking dropped, another end token), every assistant
turn becomes its own sample, which is exactly what the model sees at inference.
"""

import time

from .chat import MAX_RENDERED
from .errors import PrepareError
from .limits import Limited, row_seconds
from .rows import check_encodable, is_masked


MOST_CHARACTERS = 512 << 20  # of all renderings of a row, which are kept
MOST_RENDERS = 60  # times the time of a single one, for all of a row together
NEXT_WORDS = "x"  # what a user says behind an answer, to see which token opens that turn


class Conversation:
    """One row's renders, each made once."""

    def __init__(self, template, messages, tools, where):
        self._template = template
        self._messages = messages
        self._tools = tools
        self._where = where
        self._made = {}
        self._spent = 0.0
        self._characters = 0

    def render(self, count, generation_prompt=False, then_user=False):
        """The first `count` messages, perhaps with a user's message after them."""
        key = (count, generation_prompt, then_user)
        if key not in self._made:
            messages = self._messages[:count]
            if then_user:
                messages = messages + [{"role": "user", "content": NEXT_WORDS}]
            self._made[key] = self._guarded(messages, generation_prompt)
        return self._made[key]

    def _guarded(self, messages, generation_prompt):
        begin = time.process_time()
        try:
            with Limited("the chat template", self._where):
                text, spans = self._template.render(messages, self._tools, generation_prompt)
        except PrepareError:
            raise
        except Exception as error:  # of the template's own making, in one of many ways
            raise PrepareError(
                336, f"the chat template refuses the messages: {error}", self._where
            ) from error
        self._spent += time.process_time() - begin
        if self._spent > MOST_RENDERS * row_seconds():
            raise PrepareError(
                504,
                f"the chat template took {self._spent:.0f} s of processor time for the messages "
                "of one row (SUTOR_ROW_SECONDS)",
                self._where,
            )
        self._characters += len(text)
        for size, most, what in (
            (len(text), MAX_RENDERED, "renders"),
            (self._characters, MOST_CHARACTERS, "renders, for all turns of one row together,"),
        ):
            if size > most:
                raise PrepareError(
                    504, f"the chat template {what} more than {most:,} characters", self._where
                )
        check_encodable(text, "messages", self._where)
        return text, spans

    def user_opening(self, i, special):
        """The special token right after answer i when a user speaks next; None without one."""
        try:
            text = self.render(i + 1, then_user=True)[0]
        except PrepareError as error:
            if error.code == 504:
                raise
            return None  # the template wants something else there
        stops = list(special.finditer(text))
        answer = (self._messages[i].get("content") or "").strip()
        # The template may have rewritten what is before the answer, but not its end.
        if not stops or text[stops[-1].end() :].strip() != NEXT_WORDS:
            return None
        behind = text[: stops[-1].start()].rstrip().endswith(answer)
        return stops[-1].group() if behind else None


class MaskMaker:
    def __init__(self, template, loss_on, special):
        """special: a pattern of the tokenizer's special tokens, where turns end."""
        self._template = template
        self._loss_on = loss_on
        self._special = special
        self.per_turn = 0  # rows that became a sample a turn
        self.without_stop = 0  # trained turns that do not end with a special token

    def take_counts(self):
        """What was counted since the last call."""
        counts = {"rows_as_turns": self.per_turn, "turns_without_stop": self.without_stop}
        self.per_turn = self.without_stop = 0
        return counts

    def samples(self, messages, tools, where):
        """A list of (text, spans): spans are sorted [begin, end) in characters, in the loss."""
        talk = Conversation(self._template, messages, tools, where)
        full, marks = talk.render(len(messages))
        if self._loss_on == "all":
            return [(full, [(0, len(full))])]
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        chosen = turns if self._loss_on == "assistant" else turns[-1:]
        chosen = [i for i in chosen if not is_masked(messages[i])]
        if not chosen:
            return [(full, [])]
        if self._template.has_generation():
            return [(full, self._marked(marks, turns, chosen, where))]
        return self._by_prefix(talk, full, chosen, where)

    def _marked(self, marks, turns, chosen, where):
        if chosen == turns:
            return [span for span in marks if span[0] < span[1]]
        if len(marks) != len(turns):
            raise PrepareError(
                336,
                f"the template marks {len(marks)} generations for {len(turns)} assistant messages, "
                "so single ones cannot be left out of the loss",
                where,
            )
        spans = [marks[turns.index(i)] for i in chosen]
        return [span for span in spans if span[0] < span[1]]

    def _by_prefix(self, talk, full, chosen, where):
        turns = []  # (text before the answer, text with the answer, number of the message)
        whole = True
        for i in chosen:
            before = talk.render(i, generation_prompt=True)[0]
            after = talk.render(i + 1)[0]
            if not after.startswith(before):
                raise PrepareError(
                    339,
                    "the chat template's generation prompt is not the start of the rendered answer "
                    f"(message {i}), so the trained part cannot be told exactly. Use a template "
                    "with {% generation %} marks (data.template), or rows of `prompt` and "
                    "`completion`",
                    where,
                )
            whole = whole and full.startswith(before) and full.startswith(after)
            turns.append((before, after, i))
        if whole:
            spans, text = [], full
            for before, after, i in turns:
                end, text = self._stop(talk, text, before, after, i)
                spans.append((len(before), end))
            return [(text, spans)]
        self.per_turn += 1
        samples = []
        for before, after, i in turns:
            end, text = self._stop(talk, after, before, after, i)
            samples.append((text, [(len(before), end)]))
        return samples

    def _stop(self, talk, text, before, after, i):
        """The end of a turn in the loss, and the text (with a stop token appended or not)."""
        stops = list(self._special.finditer(after, len(before)))
        if stops:
            return stops[-1].end(), text
        # The stop is the next message's first token (GLM-4.5).
        following = self._special.match(text, len(after))
        if following:
            return following.end(), text
        opening = talk.user_opening(i, self._special) if len(text) == len(after) else None
        if opening:
            return len(after) + len(opening), text + opening
        self.without_stop += 1
        return len(after), text
