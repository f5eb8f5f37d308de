"""Which characters of a rendered conversation are in the loss: the template tells.

With {% generation %} marks in the template: what they enclose. Else by prefix difference: the text
of an assistant turn is what the conversation up to it renders beyond the generation prompt before
it. Where a template rewrites earlier turns (thinking dropped, another end token), every assistant
turn becomes its own sample, which is exactly what the model sees at inference.

A turn ends with the token that the template puts behind what the message says, or, where it puts
none there, with the one that opens the next turn (turn_ends.py). What messages say is never
searched for tokens.
"""

from typing import NamedTuple

from .conversation import THINKING_WANTED, WANTED, Conversation
from .errors import PrepareError
from .rows import is_masked
from .spans import Span, without
from .step import once
from .text_marks import CONTENT, THINKING, THINKING_KEYS, MarkedText
from .turn_ends import TurnEnds

ADVICE = (
    "Use a template with {% generation %} marks (data.template), or rows of `prompt` and "
    "`completion`"
)


class MaskMaker:
    def __init__(self, templates, tokenizer, loss_on, loss_on_thinking=True):
        self._templates = templates
        self._loss_on = loss_on
        self._loss_on_thinking = loss_on_thinking
        self.turn_ends = TurnEnds(tokenizer)
        self.per_turn = 0  # rows that became a sample a turn

    def take_counts(self):
        """What was counted since the last call."""
        counts = {"rows_as_turns": self.per_turn, **self.turn_ends.take_counts()}
        self.per_turn = 0
        return counts

    def samples(self, messages, tools, where, more=None):
        """A list of (text, spans): spans are sorted Span in the loss. more: names for the
        template."""
        talk = Conversation(self._templates, messages, tools, where, more)
        full, marks = talk.render(len(messages))
        chosen, silent = self._chosen(messages)
        if self._loss_on == "all":
            return [(full, self._everything(talk, full, messages, silent))]
        if not chosen:
            return [(full, [])]
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if talk.template.has_generation and set(chosen) <= set(turns):
            return [(full, self._generated(talk, full, marks, turns, chosen, silent))]
        return self._by_prefix(talk, full, chosen, silent)

    def _chosen(self, messages):
        """The numbers of the messages in the loss, and of those whose thinking is not."""
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        chosen = turns if self._loss_on == "assistant" else turns[-1:]
        chosen = [i for i in chosen if not is_masked(messages[i])]
        if self._loss_on == "assistant":  # a message of another role that asks for it
            chosen += [i for i, message in enumerate(messages)
                       if message.get(WANTED) is True and i not in turns]
        silent = [i for i in (turns if self._loss_on == "all" else chosen)
                  if not messages[i].get(THINKING_WANTED, self._loss_on_thinking)
                  and _thinks(messages[i])]
        return sorted(chosen), silent

    def _places(self, talk, text, count):
        marked = talk.marked(text, count)
        if marked is None:
            raise PrepareError(
                339,
                "the chat template renders something else when the texts of the messages are "
                f"marked, so that single parts cannot be left out of the loss. {ADVICE}",
                talk.where,
            )
        return marked

    def _everything(self, talk, full, messages, silent):
        """All but the messages that ask not to be trained, and thinking."""
        span = Span(0, len(full))
        masked = [i for i, message in enumerate(messages) if is_masked(message)]
        if not masked and not silent:
            return [span]
        marked = self._places(talk, full, len(messages))
        for i in masked:
            places = marked.places(i)
            if places:
                end = self.turn_ends.behind(full, places[-1][1])
                span = without(span, [(places[0][0], end)])
        for i in silent:
            span = without(span, marked.places(i, THINKING))
        return [span]

    def _generated(self, talk, full, marks, turns, chosen, silent):
        stretches = [(None, marks)]
        if chosen != turns or silent:
            stretches = zip(turns, self._marks_of_turns(talk, marks, turns))
        marked = self._places(talk, full, len(talk.messages)) if silent else None
        spans = []
        for i, its_marks in stretches:
            if i is not None and i not in chosen:
                continue
            for begin, end in its_marks:
                if begin < end:
                    self.turn_ends.note(full, begin, end)
                    places = marked.places(i, THINKING) if i in silent else []
                    spans.append(without(Span(begin, end, soft=True), places))
        return spans

    def _marks_of_turns(self, talk, marks, turns):
        """The marks of each assistant message."""
        if len(marks) == len(turns):
            return [[mark] for mark in marks]
        counts = [len(talk.render(i + 1)[1]) for i in turns]
        if counts != sorted(counts) or counts[-1] != len(marks):
            raise PrepareError(
                339,
                f"the template marks {len(marks)} generations for {len(turns)} assistant messages, "
                "so single ones cannot be left out of the loss",
                talk.where,
            )
        return [marks[a:b] for a, b in zip([0, *counts], counts)]

    def _by_prefix(self, talk, full, chosen, silent):
        turns, whole = [], True
        for i in chosen:
            turn = self._turn(talk, full, i)
            whole = whole and turn.marked is None and full.startswith(turn.text)
            # Of what `full` begins with the length is enough.
            turns.append(turn._replace(text=None) if full.startswith(turn.text) else turn)
        if whole:
            return [self._sample(talk, full, len(talk.messages), turns, silent)]
        self.per_turn += 1
        return [
            self._sample(talk, full[: turn.end] if turn.text is None else turn.text,
                         turn.number + 1, [turn], silent)
            for turn in turns
        ]

    def _turn(self, talk, full, i):
        """Message i behind what the model sees before it writes it."""
        after = full if i + 1 == len(talk.messages) else talk.render(i + 1)[0]
        if talk.messages[i]["role"] != "assistant":
            places = self._places(talk, after, i + 1).places(i, CONTENT)
            return Turn(i, places[0][0] if places else len(after), len(after), after)
        before = talk.render(i, generation_prompt=True)[0]
        if after.startswith(before):
            return Turn(i, len(before), len(after), after)
        return self._behind_prompt(talk, before, after, i)

    def _behind_prompt(self, talk, before, after, i):
        """The same where the answer itself changes what stands before it (GPT-OSS leaves out the
        thinking behind a call of a tool once there is an answer)."""
        earlier = talk.render(i)[0]
        prompt = before[len(earlier) :] if before.startswith(earlier) else ""
        marked = talk.marked(after, i + 1)
        own = marked.places(i) if marked else []
        said = [place for number in range(i) for place in marked.places(number)] if own else []
        at = after.find(prompt, said[-1][1], own[0][0]) if prompt and said else -1
        if at < 0:
            raise PrepareError(
                339,
                "the chat template's generation prompt is not the start of the rendered answer "
                f"(message {i}), so the trained part cannot be told exactly. {ADVICE}",
                talk.where,
            )
        text = before + after[at + len(prompt) :]
        return Turn(i, len(before), len(text), text, marked.shifted(len(text) - len(after)))

    def _sample(self, talk, text, count, turns, silent):
        """A text of `count` messages and the spans of these turns, with their ends."""
        rendered = text  # without what may be appended
        marked = once(lambda: turns[0].marked or talk.marked(rendered, count))
        spans = []
        for i, begin, end, _, _ in turns:
            end, text = self.turn_ends.of(talk, marked, text, i, begin, end)
            span = Span(begin, end, soft=talk.messages[i]["role"] != "assistant")
            if i in silent:
                places = marked() or self._places(talk, rendered, count)
                span = without(span, places.places(i, THINKING))
            spans.append(span)
        return text, spans


class Turn(NamedTuple):
    """A message and what is before it; text: None where the whole conversation begins with it.
    marked: where its words are, unless the text is what its messages render."""

    number: int
    begin: int
    end: int
    text: str | None
    marked: MarkedText | None = None


def _thinks(message):
    content = message.get("content")
    inline = isinstance(content, str) and "</think>" in content
    return inline or any(message.get(key) for key in THINKING_KEYS)
