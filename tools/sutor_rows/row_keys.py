"""Every key of a row that some tool gives a meaning to: whose it is, and what becomes of it here.

A key is read (by the forms that are named), handed to the chat template, or refused: then a row in
which it asks for something is an error (E0370). What is in no line of these tables is metadata: it
is counted and named once (W0111). A row that has a line's key without being of its form has it as
metadata, too: `prompt` beside `messages` is nobody's.
"""

import collections
from typing import NamedTuple

from sutor_prepare.errors import PrepareError

OPENAI, MISTRAL, SHAREGPT, TRL = "OpenAI", "Mistral", "ShareGPT", "TRL"
AXOLOTL, SWIFT, FACTORY, ESFT = "axolotl", "ms-swift", "LLaMA-Factory", "ESFT"

# Forms whose rows a chat template renders.
TALKS = ("messages", "sharegpt", "alpaca", "preference", "completion")
CHATS = ("messages", "sharegpt", "preference")
ALL = TALKS + ("text", "tokens")


class Key(NamedTuple):
    name: str
    known_to: tuple
    read_by: tuple  # forms; () when it is refused
    does: str


ROW_KEYS = (
    # The conversation.
    Key("messages", (OPENAI, MISTRAL, TRL, AXOLOTL, SWIFT, ESFT), CHATS, "the messages"),
    Key("conversations", (SHAREGPT, AXOLOTL, FACTORY), CHATS, "the messages"),
    Key("conversation", (SWIFT,), CHATS, "messages, or pairs of `human` and `assistant`"),
    Key("interactions", (MISTRAL,), CHATS, "the messages"),
    Key("system", (SHAREGPT, SWIFT, FACTORY), TALKS, "the system prompt, before all messages"),
    Key("system_prompt", (MISTRAL,), TALKS, "the system prompt, before all messages"),
    Key("tools", (OPENAI, MISTRAL, TRL, SWIFT, FACTORY), TALKS, "given to the template"),
    Key("available_tools", (MISTRAL,), TALKS, "tools"),
    Key("functions", (OPENAI,), TALKS, "tools, in OpenAI's older form"),
    Key("chat_template_kwargs", (TRL, SWIFT), TALKS, "given to the template, key by key"),
    Key("parallel_tool_calls", (OPENAI,), TALKS, "given to the template"),
    Key("history", (SWIFT, FACTORY), ("alpaca",), "pairs of a question and an answer before it"),
    Key("only_last", (MISTRAL,), CHATS, "of the assistant messages, the last alone is trained"),
    # One question and its answer.
    Key("instruction", (AXOLOTL, SWIFT, FACTORY), ("alpaca", "preference"), "the question"),
    Key("input", (AXOLOTL, SWIFT, FACTORY, OPENAI), ("alpaca", "preference"),
        "follows the instruction on a line of its own; of OpenAI's preferences: messages, tools"),
    Key("output", (AXOLOTL, SWIFT, FACTORY), ("alpaca",), "the answer"),
    Key("query", (SWIFT,), ("alpaca",), "the question"),
    Key("response", (SWIFT,), ("alpaca",), "the answer"),
    Key("prompt", (TRL, ESFT), ("completion", "preference"), "text or messages; not trained"),
    Key("completion", (TRL,), ("completion",), "text or messages; trained"),
    Key("raw_answers", (ESFT,), ("completion",), "the first is the completion"),
    Key("answers", (ESFT,), ("completion",), "the first is the completion"),
    # Preferences.
    Key("chosen", (TRL, FACTORY), ("preference",), "trained"),
    Key("rejected", (TRL, FACTORY), ("preference",), "tells where the prompt ends; not trained"),
    Key("preferred_output", (OPENAI,), ("preference",), "trained"),
    Key("non_preferred_output", (OPENAI,), ("preference",), "not trained"),
    Key("rejected_response", (SWIFT,), CHATS, "not trained: the messages are the chosen side"),
    Key("rejected_messages", (SWIFT,), CHATS, "not trained: the messages are the chosen side"),
    Key("label", (TRL, SWIFT), TALKS, "false: the row is left out, as nobody wants its answer"),
    Key("kto_tag", (FACTORY,), TALKS, "as `label`"),
    # Text and tokens.
    Key("text", (MISTRAL, TRL, AXOLOTL, FACTORY), ("text",), "trained"),
    Key("input_ids", (TRL, AXOLOTL), ("tokens",), "the tokens"),
    Key("labels", (TRL, AXOLOTL), ("tokens",), "-100: not trained"),
    Key("attention_mask", (TRL, AXOLOTL), ("tokens",), "0 at either end: padding, left out"),
    Key("completion_mask", (TRL,), ("tokens",), "0: not trained"),
    Key("assistant_masks", (TRL,), ("tokens",), "0: not trained"),
    Key("loss_mask", (SWIFT,), ("tokens",), "0: not trained"),
    Key("loss_scale", (SWIFT,), ("tokens",), "0: not trained, 1: trained; others are refused"),
    Key("token_type_ids", (TRL,), ("tokens",), "0 for all; others are refused"),
    Key("position_ids", (TRL, AXOLOTL), ("tokens",), "0, 1, 2...; others are refused"),
    Key("seq_lengths", (TRL,), (), "of packed rows"),
    # What this program does not do.
    Key("image", (TRL,), (), "an image"),
    Key("images", (TRL, SWIFT, FACTORY), (), "images"),
    Key("video", (TRL,), (), "a video"),
    Key("videos", (SWIFT, FACTORY), (), "videos"),
    Key("audio", (TRL,), (), "sound"),
    Key("audios", (SWIFT, FACTORY), (), "sound"),
    Key("objects", (SWIFT,), (), "boxes in images"),
    Key("weight", (OPENAI, MISTRAL), ALL, "1 alone: a row's weight in the loss is refused"),
)

MESSAGE_KEYS = (
    Key("role", (OPENAI, MISTRAL, TRL, ESFT), CHATS, "who speaks"),
    Key("from", (SHAREGPT, AXOLOTL, FACTORY), CHATS, "who speaks"),
    Key("content", (OPENAI, MISTRAL, TRL, ESFT), CHATS, "text, or a list of parts"),
    Key("value", (SHAREGPT, AXOLOTL, FACTORY), CHATS, "the content"),
    Key("text", (MISTRAL,), CHATS, "the content"),
    Key("name", (OPENAI, MISTRAL), CHATS, "given to the template"),
    Key("tool_calls", (OPENAI, MISTRAL, TRL), CHATS, "given to the template, arguments decoded"),
    Key("tool_call_id", (OPENAI, MISTRAL), CHATS, "given to the template"),
    Key("function_call", (OPENAI,), CHATS, "a tool call, in OpenAI's older form"),
    Key("reasoning_content", (OPENAI, TRL, AXOLOTL), CHATS, "the thoughts, under all three names"),
    Key("reasoning", (OPENAI,), CHATS, "the thoughts, under all three names"),
    Key("thinking", (OPENAI, TRL), CHATS, "the thoughts, under all three names"),
    # Whether it is trained.
    Key("weight", (OPENAI, MISTRAL, AXOLOTL), CHATS, "0: not trained, 1: as the recipe says"),
    Key("train", (AXOLOTL,), CHATS, "false: not trained"),
    Key("training", (AXOLOTL,), CHATS, "false: not trained"),
    Key("mask", (ESFT,), CHATS, "1: not trained"),
    Key("loss", (SWIFT,), CHATS, "false: not trained"),
    Key("loss_scale", (SWIFT,), CHATS, "0: not trained, 1: as the recipe says"),
    Key("train_thinking", ("sutor",), CHATS, "false: its thoughts are not trained"),
    Key("train_detail", (AXOLOTL,), (), "parts of a message that are trained"),
    Key("training_detail", (AXOLOTL,), (), "parts of a message that are trained"),
    # What this program does not do.
    Key("refusal", (OPENAI,), (), "a refusal in place of a content"),
    Key("prefix", (MISTRAL,), (), "an answer that goes on"),
    Key("images", (SWIFT, FACTORY), (), "images"),
    Key("videos", (SWIFT, FACTORY), (), "videos"),
    Key("audios", (SWIFT, FACTORY), (), "sound"),
    Key("audio", (OPENAI,), (), "sound"),
)

# Of a message: no template may see them; `row_messages` has understood them.
CONSUMED = frozenset(
    ("from", "value", "text", "function_call", "weight", "train", "training", "mask", "loss",
     "loss_scale", "train_thinking", "train_detail", "training_detail")
)
_OF_ROW = {key.name: key for key in ROW_KEYS}
_OF_MESSAGE = {key.name: key for key in MESSAGE_KEYS}


def asks_for_something(value):
    """Datasets in columns have every key in every row."""
    return not (value is None or value is False or value in ("", [], {}))


def _refused(key, name, where, alternative):
    raise PrepareError(
        370,
        f"`{name}` ({key.does}; of {', '.join(key.known_to)}) is not supported. {alternative}",
        where,
    )


def check_row_keys(row, form, unread, where):
    """Refuses what is not supported; counts in `unread` the keys that nobody reads in this form."""
    for name, value in row.items():
        key = _OF_ROW.get(name)
        if key is None or (key.read_by and form not in key.read_by):
            unread[name] += 1
        elif not key.read_by and asks_for_something(value):
            _refused(key, name, where, f"Set `columns: {{{name}: null}}` of the data set to train "
                     "without it")
    weight = row.get("weight")
    if weight is not None and weight != 1:
        raise PrepareError(
            370,
            f"`weight` is {weight!r}: weights of rows in the loss are not supported. Give the data "
            "set a `weight` in the recipe, or set `columns: {weight: null}` to train all alike",
            where,
        )


def check_message_keys(message, name, unread, where):
    for each, value in message.items():
        key = _OF_MESSAGE.get(each)
        if key is None:
            unread[f"messages[].{each}"] += 1
        elif not key.read_by and asks_for_something(value):
            _refused(key, f"{name}.{each}", where, "Take the key out of the rows")


def renamed(row, columns):
    """A row with the columns that the recipe names under the names that this program knows, and
    without those that it sets to null."""
    if not columns:
        return row
    moved = {}
    for name, column in columns.items():
        if column is not None and column in row:
            moved[name] = row[column]
    taken = set(columns) | {column for column in columns.values() if column}
    return {**{name: value for name, value in row.items() if name not in taken}, **moved}


def new_counts():
    return collections.Counter()
