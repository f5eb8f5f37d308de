"""The messages of a row, whoever's form they have, in one: that of OpenAI, as templates read it.

Roles and keys of other tools are translated, keys that are null are dropped, tool calls are
objects, and what a message says about its training is under two private keys, which masks.py takes
out: `_train` and `_train_thinking` (true or false; absent where it says nothing).
"""

import json

from sutor_prepare.errors import PrepareError

from .row_keys import CONSUMED, check_message_keys
from .values import kind_of

ROLES = {
    "human": "user", "prompter": "user",
    "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatbot": "assistant",
    "chatgpt": "assistant", "ai": "assistant",
    "observation": "tool", "function": "tool", "tool_response": "tool", "function_response": "tool",
}
CALLS = ("function_call", "tool_call")  # roles whose content is the JSON text of tool calls
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
TEXT_PARTS = ("text", "input_text", "output_text")
THOUGHT_PARTS = ("thinking", "reasoning")
MEDIA = ("image", "audio", "video", "file", "refusal")  # beginnings of other parts' types
MOST_LEVELS = 100  # of values within values


def messages_of(messages, unread, where, name="messages"):
    """The list in one form; a copy. unread: counts keys that nobody reads."""
    messages = decoded(messages, name, where)
    if isinstance(messages, dict):
        messages = [messages]
    if not isinstance(messages, list) or not messages:
        raise PrepareError(336, f"`{name}`: expected a list of messages", where)
    made = []
    for number, message in enumerate(messages):
        each = f"{name}[{number}]"
        if not isinstance(message, dict):
            raise PrepareError(336, f"`{each}`: expected an object, got {kind_of(message)}", where)
        message = {key: value for key, value in message.items() if value is not None}
        check_message_keys(message, each, unread, where)
        check_strings(message, each, where)
        if _role(message, each, where) in CALLS:
            _add_calls(made, message, each, where)
        else:
            made.append(_message_of(message, each, where))
    return made


def _role(message, name, where):
    role = message.get("role", message.get("from"))
    if not isinstance(role, str) or not role:
        got = kind_of(role) if "role" in message or "from" in message else "nothing"
        raise PrepareError(336, f"`{name}.role`: expected text, got {got}", where)
    return role


def _message_of(message, name, where):
    role = _role(message, name, where)
    role = ROLES.get(role.lower(), role)
    made = {"role": role}
    for key, value in message.items():
        if key not in CONSUMED and key not in ("role", "content", "_train", "_train_thinking"):
            made[key] = value
    calls = message.get("tool_calls")
    if "function_call" in message and not calls:
        calls = [message["function_call"]]
    calls = decoded(calls, f"{name}.tool_calls", where)
    if calls:
        made["tool_calls"] = tool_calls_of(calls, f"{name}.tool_calls", where)
    else:
        made.pop("tool_calls", None)
    for key in ("name", "tool_call_id", *THOUGHTS):
        if key in made and not isinstance(made[key], str):
            raise PrepareError(
                336, f"`{name}.{key}`: expected text, got {kind_of(made[key])}", where
            )
    content = _content(message, made, name, where)
    if content is not None:
        made["content"] = content
    _mark(made, message, name, where)
    return made


def _content(message, made, name, where):
    """Text, a list of text parts, or None where a message without one says something else."""
    for key in ("content", "value", "text"):
        if key in message:
            break
    content = message.get(key)
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        return _parts(content, made, f"{name}.{key}", where)
    said_otherwise = "tool_calls" in made or any(made.get(key) for key in THOUGHTS)
    if made["role"] == "assistant" and said_otherwise and content in (None, []):
        return None
    raise PrepareError(336, f"`{name}.content`: expected text, got {kind_of(content)}", where)


def _parts(parts, made, name, where):
    """Parts of text. Those of thoughts become the thoughts of the message."""
    texts, thoughts = [], []
    for number, part in enumerate(parts):
        each = f"{name}[{number}]"
        if not isinstance(part, dict):
            raise PrepareError(
                336, f"`{each}`: expected an object with `type` and `text`, got {kind_of(part)}",
                where,
            )
        part = {key: value for key, value in part.items() if value is not None}
        kind = part.get("type", "text")
        if kind in TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append({**part, "type": "text"})
        elif kind in THOUGHT_PARTS:
            thoughts.append(_thought(part, each, where))
        elif isinstance(kind, str) and kind.removeprefix("input_").startswith(MEDIA):
            raise PrepareError(
                370, f"`{each}`: parts of type `{kind}` are not supported: text alone is", where
            )
        else:
            raise PrepareError(336, f"`{each}`: expected a part of type `text` with `text`", where)
    if thoughts and not any(made.get(key) for key in THOUGHTS):
        made["reasoning_content"] = "".join(thoughts)
    if not texts and not thoughts:
        raise PrepareError(336, f"`{name}`: expected parts, got none", where)
    return texts or ""


def _thought(part, name, where):
    value = part.get("thinking", part.get("reasoning", part.get("text")))
    if isinstance(value, list) and all(isinstance(p, dict) for p in value):
        value = "".join(p["text"] for p in value if isinstance(p.get("text"), str))
    if not isinstance(value, str):
        raise PrepareError(336, f"`{name}`: expected thoughts as text", where)
    return value


def tool_calls_of(calls, name, where):
    """OpenAI's form. Arguments are objects; their own text, if they were text, is `_text`."""
    calls = [calls] if isinstance(calls, dict) else calls
    if not isinstance(calls, list):
        raise PrepareError(336, f"`{name}`: expected a list, got {kind_of(calls)}", where)
    return [_call(call, f"{name}[{i}]", where) for i, call in enumerate(calls)]


def _call(call, name, where):
    call = decoded(call, name, where)
    if not isinstance(call, dict):
        raise PrepareError(336, f"`{name}`: expected an object, got {kind_of(call)}", where)
    call = {key: value for key, value in call.items() if value is not None}
    if "function" not in call and "name" in call:
        around = {key: call[key] for key in ("id", "type") if key in call}
        inner = {key: value for key, value in call.items() if key not in around}
        call = {"type": "function", **around, "function": inner}
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise PrepareError(336, f"`{name}.function`: expected an object with a `name`", where)
    made = {key: value for key, value in function.items() if value is not None}
    arguments = made.get("arguments", {})
    if isinstance(arguments, str):
        text = arguments.strip() or "{}"
        arguments = decoded_text(text, f"{name}.function.arguments", where)
        made["_text"] = text
    if not isinstance(arguments, dict):
        got = kind_of(arguments)
        raise PrepareError(
            336, f"`{name}.function.arguments`: expected an object or its JSON text, got {got}",
            where,
        )
    made["arguments"] = arguments
    check_strings(arguments, f"{name}.function.arguments", where)
    return {**call, "function": made}


def _add_calls(made, message, name, where):
    """Calls of a message of their own join the assistant's message that they follow."""
    content = message.get("content", message.get("value"))
    if isinstance(content, str):
        content = decoded_text(content, f"{name}.content", where)
    calls = tool_calls_of(content, f"{name}.content", where)
    if not made or made[-1]["role"] != "assistant":
        made.append({"role": "assistant"})
    made[-1]["tool_calls"] = made[-1].get("tool_calls", []) + calls
    _mark(made[-1], message, name, where)


def _mark(made, message, name, where):
    """_train and _train_thinking, of all keys that say whether a message is trained."""
    said = {}
    for key in ("train", "training", "loss", "weight", "loss_scale"):
        if key in message:
            said[key] = _flag(message[key], key, f"{name}.{key}", where)
    if "mask" in message:
        said["mask"] = not _flag(message["mask"], "mask", f"{name}.mask", where)
    asked = [key for key in ("train", "training") if said.get(key)]
    if False in said.values():
        if asked:
            raise PrepareError(
                336, f"`{name}`: {', '.join(f'`{key}`' for key in said)} contradict each other",
                where,
            )
        made["_train"] = False
    elif asked and "_train" not in made:
        made["_train"] = True
    if "train_thinking" in message:
        made["_train_thinking"] = _flag(
            message["train_thinking"], "train_thinking", f"{name}.train_thinking", where
        )


def _flag(value, key, name, where):
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    if key in ("weight", "loss", "loss_scale") and isinstance(value, (int, float)):
        raise PrepareError(
            370, f"`{name}` is {value!r}: weights in the loss other than 0 and 1 are not supported",
            where,
        )
    raise PrepareError(336, f"`{name}`: expected true, false, 0 or 1, got {kind_of(value)}", where)


def decoded(value, name, where):
    """What JSON text holds, where columns hold text in place of a list or an object."""
    if not isinstance(value, str):
        return value
    return decoded_text(value, name, where) if value.strip() else None


def decoded_text(text, name, where):
    try:
        return json.loads(text)
    except RecursionError as error:
        raise PrepareError(336, f"`{name}` is nested too deeply", where) from error
    except ValueError as error:
        raise PrepareError(336, f"`{name}` is text, but not JSON: {error}", where) from error


def check_strings(value, name, where, level=0):
    """Every text in a value can be encoded, and nothing lies deeper than any template reads."""
    if isinstance(value, str):
        if not value.isascii():
            check_encodable(value, name, where)
    elif isinstance(value, (dict, list)):
        if level > MOST_LEVELS:
            raise PrepareError(
                336, f"`{name[:80]}...` is nested in more than {MOST_LEVELS} levels", where
            )
        if isinstance(value, dict):
            for key, each in value.items():
                check_strings(key, f"a key of {name}", where)
                check_strings(each, f"{name}.{key}", where, level + 1)
        else:
            for number, each in enumerate(value):
                check_strings(each, f"{name}[{number}]", where, level + 1)


def check_encodable(text, name, where):
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        name = name.encode("utf-8", "replace").decode("utf-8")
        raise PrepareError(
            337, f"`{name}` holds half a surrogate pair at character {error.start}", where
        ) from error


def content_text(message):
    """The text of a message's content, whether it is one or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""
