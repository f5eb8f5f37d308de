"""Rows of any form -> one of four things: a conversation, a prompt with its completion, a text, or
tokens. The form of a data set is that of its first row whose form is known, or the recipe's.

    messages     OpenAI, Mistral, ms-swift, the ESFT authors: `messages` of role and content
    sharegpt     `conversations` of from and value (also `conversation`, of pairs)
    alpaca       `instruction`, `input`, `output`; `query`, `response`; with `system`, `history`
    preference   `chosen` and `rejected`, with `prompt`, messages or `instruction` before them, or
                 OpenAI's `input` and `preferred_output`: the chosen side is trained
    completion   `prompt` and `completion`, text or messages (TRL); `prompt` and `raw_answers` (the
                 ESFT authors' rows for evaluation)
    text         `text`
    tokens       `input_ids`, with `labels` and masks
"""

import dataclasses

from sutor_prepare.errors import PrepareError
from sutor_prepare.rows import given_answers, text_of

from .normalize import template_values, tools_of
from .row_keys import asks_for_something, check_row_keys, new_counts, renamed
from .row_messages import content_text, decoded, messages_of
from .row_tokens import tokens_of
from .values import kind_of

# Distinguished by their keys, in this order: all of one of the tuples.
FORMS = (
    ("tokens", (("input_ids",),)),
    ("preference", (("chosen", "rejected"), ("input", "preferred_output"))),
    ("messages", (("messages",), ("interactions",))),
    ("sharegpt", (("conversations",), ("conversation",))),
    ("completion", (("prompt", "completion"), ("prompt", "raw_answers"))),
    ("alpaca", (("instruction", "output"), ("query", "response"))),
    ("text", (("text",),)),
)
# Of rows that only ask.
QUESTIONS = (
    ("completion", (("prompt",),)),
    ("alpaca", (("instruction",), ("query",))),
)
LISTS = ("messages", "conversations", "conversation", "interactions")


@dataclasses.dataclass
class Conversation:
    messages: list  # in the form of row_messages.py
    tools: list  # or None
    template_values: dict


@dataclasses.dataclass
class Completion:
    prompt: str
    completion: str  # None of a row that only asks


@dataclasses.dataclass
class Text:
    text: str


@dataclasses.dataclass
class Tokens:
    ids: list
    mask: list


def detect_form(row, where, with_answers=True):
    for form, choices in FORMS if with_answers else FORMS[:-1] + QUESTIONS + FORMS[-1:]:
        if any(all(row.get(key) is not None for key in keys) for keys in choices):
            return form
    raise PrepareError(
        336,
        f"the form of a row with the keys {', '.join(map(str, row))[:200] or '(none)'} is not "
        "known. Rows hold `messages`, `conversations`, `instruction` and `output`, `prompt` and "
        "`completion` (or `raw_answers`), `chosen` and `rejected`, `text`, or `input_ids`. Say "
        "which columns these are under other names: `columns: {text: content}`",
        where,
    )


def form_of(row, columns, where):
    """Of a row whose columns have other names: the form of the row as RowForms reads it."""
    return detect_form(renamed(row, columns or {}), where)


class RowForms:
    """form: auto, or one of FORMS. columns: names of this program -> names of columns, or None.
    with_answers: whether a row must have one, as for training."""

    def __init__(self, form, columns=None, with_answers=True):
        self.form = form
        self._columns = columns or {}
        self._with_answers = with_answers
        self.unread = new_counts()  # keys that nobody reads: rows (or messages) that have them
        self.not_chosen = 0  # rows that say that their answer is a bad one

    def of(self, row, where):
        """One of the four; None for a row that is not to be trained by its own word."""
        row = renamed(row, self._columns)
        if self.form == "auto":
            self.form = detect_form(row, where, self._with_answers)
        check_row_keys(row, self.form, self.unread, where)
        if row.get("label") is False or row.get("kto_tag") is False:
            self.not_chosen += 1
            return None
        return getattr(self, "_" + self.form)(row, where)

    @staticmethod
    def _tokens(row, where):
        return Tokens(*tokens_of(row, where))

    @staticmethod
    def _text(row, where):
        return Text(text_of(row, "text", where))

    def _messages(self, row, where):
        messages = self._list(row, where)
        if messages is None:
            raise PrepareError(336, "`messages`: expected a list of messages, got nothing", where)
        if row.get("only_last") is True:
            _untrain([m for m in messages if m["role"] == "assistant"][:-1])
        return self._conversation(messages, row, where)

    _sharegpt = _messages

    def _list(self, row, where):
        """The messages of the first key that has some; None without one."""
        for key in LISTS:
            if row.get(key) is not None:
                pairs = decoded(row[key], key, where)
                if key == "conversation" and _are_pairs(pairs):
                    return messages_of(_turns_of_pairs(pairs), self.unread, where, key)
                return messages_of(pairs, self.unread, where, key)
        return None

    def _conversation(self, messages, row, where):
        systems = [key for key in ("system", "system_prompt") if asks_for_something(row.get(key))]
        if systems and messages[0]["role"] not in ("system", "developer"):
            system = {"role": "system", "content": text_of(row, systems[0], where)}
            messages = [system] + messages
        elif systems and content_text(messages[0]) != text_of(row, systems[0], where):
            raise PrepareError(
                336, f"`{systems[0]}` and the first message are two system prompts", where
            )
        tools = None
        for key in ("tools", "available_tools", "functions"):
            if row.get(key) is not None:
                tools = tools_of(row[key], key, where)
                break
        return Conversation(messages, tools, template_values(row, where))

    def _alpaca(self, row, where):
        messages = self._question(row, where)
        key = "response" if row.get("response") is not None else "output"
        if self._with_answers or row.get(key) is not None:
            messages.append({"role": "assistant", "content": text_of(row, key, where)})
        return self._conversation(messages, row, where)

    @staticmethod
    def _question(row, where):
        """The history and the question of a row of instructions."""
        messages = []
        history = decoded(row.get("history"), "history", where) or []
        for number, pair in enumerate(history if isinstance(history, list) else [history]):
            if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_text, pair))):
                raise PrepareError(
                    336, f"`history[{number}]`: expected a question and its answer", where
                )
            messages += [{"role": "user", "content": pair[0]},
                         {"role": "assistant", "content": pair[1]}]
        key = "instruction" if row.get("instruction") is not None else "query"
        question = text_of(row, key, where)
        if asks_for_something(row.get("input")):
            more = text_of(row, "input", where)
            question = f"{question}\n{more}" if question else more
        return messages_of(messages + [{"role": "user", "content": question}], new_counts(), where)

    def _completion(self, row, where):
        prompt = _loaded(row, "prompt", where)
        if row.get("completion") is None:
            return self._asked_alone(prompt, row, where)
        completion = _loaded(row, "completion", where)
        if _is_text(prompt) and _is_text(completion):
            return Completion(text_of(row, "prompt", where), text_of(row, "completion", where))
        asked = self._side(prompt, "user", "prompt", where)
        answered = self._side(completion, "assistant", "completion", where)
        return self._conversation(_untrain(asked) + answered, row, where)

    def _asked_alone(self, prompt, row, where):
        """Of a prompt without completion: with the ESFT authors' answers, or none."""
        if not _is_text(prompt):
            if self._with_answers:
                raise PrepareError(336, "`completion`: expected messages, got nothing", where)
            return self._conversation(self._side(prompt, "user", "prompt", where), row, where)
        text = text_of(row, "prompt", where)
        return Completion(text, _first_answer(row, where) if self._with_answers else None)

    def _preference(self, row, where):
        if row.get("preferred_output") is not None:
            return self._openai_preference(row, where)
        chosen, rejected = (_loaded(row, key, where) for key in ("chosen", "rejected"))
        before = self._before(row, where)
        if _is_text(chosen) and (before is None or _is_text(before)):
            return _chosen_text(before, chosen, rejected, row, where)
        answered = self._side(chosen, "assistant", "chosen", where)
        if before is None:
            other = self._side(rejected, "assistant", "rejected", where)
            same = 0
            while same < min(len(answered), len(other)) and answered[same] == other[same]:
                same += 1
            _untrain(answered[: min(same, len(answered) - 1)])
            return self._conversation(answered, row, where)
        asked = before if isinstance(before, list) else self._side(before, "user", "prompt", where)
        if _begins_with(answered, asked):
            asked, answered = answered[: len(asked)], answered[len(asked) :]
        return self._conversation(_untrain(asked) + answered, row, where)

    def _before(self, row, where):
        """What a preference is about: text, messages, or None where both sides hold it."""
        messages = self._list(row, where)
        if messages is not None:
            return messages
        if row.get("instruction") is not None:
            return self._question(row, where)
        prompt = _loaded(row, "prompt", where) if row.get("prompt") is not None else None
        if prompt is None or _is_text(prompt):
            return prompt
        return self._side(prompt, "user", "prompt", where)

    def _openai_preference(self, row, where):
        asked = decoded(row.get("input"), "input", where)
        if not isinstance(asked, dict):
            raise PrepareError(336, f"`input`: expected an object, got {kind_of(asked)}", where)
        messages = messages_of(asked.get("messages"), self.unread, where, "input.messages")
        chosen = row["preferred_output"]
        answered = messages_of(chosen, self.unread, where, "preferred_output")
        return self._conversation(_untrain(messages) + answered, {**row, **asked}, where)

    def _side(self, value, role, name, where):
        """Messages of a side that is text, one message, or a list of them."""
        if _is_text(value):
            value = [{"role": role, "content": value}]
        return messages_of(value, self.unread, where, name)


def _loaded(row, key, where):
    """The value; of a column of text that holds a list of messages, that list."""
    value = row.get(key)
    if _is_text(value) and value.lstrip()[:2] in ("[{", '{"'):
        try:
            found = decoded(value, key, where)
        except PrepareError:
            return value
        first = found[0] if isinstance(found, list) else found
        if isinstance(first, dict) and ("role" in first or "from" in first):
            return found
    if not isinstance(value, (str, list, dict)):
        got = "nothing" if key not in row else kind_of(value)
        raise PrepareError(336, f"`{key}`: expected text or messages, got {got}", where)
    return value


def _is_text(value):
    return isinstance(value, str)


def _are_pairs(value):
    return isinstance(value, list) and bool(value) and all(
        isinstance(each, dict) and "human" in each and "assistant" in each for each in value
    )


def _turns_of_pairs(pairs):
    roles = (("human", "user"), ("assistant", "assistant"))
    return [{"role": role, "content": pair[key]} for pair in pairs for key, role in roles]


def _untrain(messages):
    for message in messages:
        if message["role"] == "assistant":
            message["_train"] = False
    return messages


def _begins_with(messages, beginning):
    """Whether a side repeats the prompt, as those of some sets do."""
    if len(messages) <= len(beginning):
        return False
    return all(
        (a["role"], content_text(a)) == (b["role"], content_text(b))
        for a, b in zip(messages, beginning)
    )


def _first_answer(row, where):
    """The completion of a row with answers, as the ESFT authors' rows for evaluation have them: the
    first one after a blank, as their prompts end with `Assistant:`."""
    answers = given_answers(row, where)
    if not answers:
        raise PrepareError(336, "`raw_answers`: expected an answer, got none", where)
    return " " + answers[0].strip()


def _chosen_text(prompt, chosen, rejected, row, where):
    """Without a prompt: what both sides begin with is it, up to the last blank."""
    text_of(row, "chosen", where)
    if prompt is not None:
        return Completion(text_of(row, "prompt", where), chosen)
    rejected = text_of(row, "rejected", where)
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    if same == len(chosen):
        raise PrepareError(336, "`rejected` begins with all of `chosen`", where)
    if same and chosen[same - 1] == " ":
        same -= 1
    return Completion(chosen[:same], chosen[same:])
