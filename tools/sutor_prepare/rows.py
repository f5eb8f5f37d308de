"""Reads JSON lines, detects their format, and checks the required keys of every row."""

import gc
import hashlib
import json
import re

from .errors import PrepareError
from .files import MAX_TEXT, open_input
from .limits import Limited

# Distinguished by their keys, in this order.
FORMATS = [
    ("tokens", ("input_ids",)),
    ("messages", ("messages",)),
    ("completion", ("prompt", "completion")),
    ("completion", ("prompt", "raw_answers")),
    ("text", ("text",)),
]
NOT_IN_LOSS = -100
BLOCK = 1 << 20  # bytes that are read at once
LONG_LINE = 1 << 20  # beyond it the parser of JSON is limited
BLANKS = re.compile(rb"[ \t\r\n\x0b\x0c]*")


class RowReader:
    """Iterates over (where, row), or over raw rows, of which row_of() makes rows. Knows digest and
    size of the file when it has been read."""

    def __init__(self, path):
        self.path = path
        self.rows = 0
        self.bytes = 0
        self._hash = hashlib.sha256()

    def digest(self):
        return "sha256:" + self._hash.hexdigest()

    def __iter__(self):
        for where, line in self.raw():
            yield where, self.row_of(line, where)

    def raw(self):
        """(where, line as bytes): cheap to read, and to hand to another process."""
        for number, line in self._lines():
            self.rows += 1
            yield f"{self.path}:{number}", line

    def _lines(self):
        """The lines that are not blank, with their numbers; the file is never in memory whole."""
        parts, size, number = [], 0, 1  # of a line that has not ended
        for block in self._blocks():
            parts.append(block)
            size += len(block)
            if b"\n" not in block:
                self._check_length(size, number)
                continue
            buffer, at = b"".join(parts), 0
            while True:
                blanks = BLANKS.match(buffer, at).end()
                number += buffer.count(b"\n", at, blanks)
                at = max(at, buffer.rfind(b"\n", at, blanks) + 1)  # where the line begins
                end = buffer.find(b"\n", blanks)
                if end < 0:
                    break
                self._check_length(end - at, number)
                yield number, buffer[at:end]
                number, at = number + 1, end + 1
            parts, size = [buffer[at:]], len(buffer) - at
        last = b"".join(parts)
        if last.strip():
            yield number, last

    def _check_length(self, size, number):
        if size > MAX_TEXT:
            where = f"{self.path}:{number}"
            raise PrepareError(336, f"the line has more than {MAX_TEXT:,} bytes", where)

    def _blocks(self):
        with open_input(self.path, 331) as stream:
            while True:
                try:
                    block = stream.read(BLOCK)
                except OSError as error:
                    raise PrepareError(
                        331, f"{self.path} cannot be read: {error.strerror}"
                    ) from error
                if not block:
                    return
                self._hash.update(block)
                first = self.bytes == 0
                self.bytes += len(block)
                yield block.removeprefix(b"\xef\xbb\xbf") if first else block

    @staticmethod
    def row_of(line, where):
        try:
            if len(line) < LONG_LINE:
                row = json.loads(line.decode("utf-8"))
            else:
                gc.disable()  # it would look at all values again and again
                with Limited("the row", where, mebibytes=640):
                    row = json.loads(line.decode("utf-8"))
        except RecursionError as error:
            raise PrepareError(336, "the row is nested too deeply", where) from error
        except UnicodeDecodeError as error:
            raise PrepareError(
                337,
                f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start} of the line. "
                "Convert the file, for example with `iconv -t UTF-8`",
                where,
            ) from error
        except ValueError as error:
            raise PrepareError(
                336, f"not a JSON object on one line: {error}. Rows are JSON lines", where
            ) from error
        finally:
            gc.enable()
        if not isinstance(row, dict):
            raise PrepareError(336, f"expected a JSON object, got {kind_of(row)}", where)
        return row


def range_of(batch):
    """Of a list of (where, ...): the first and the last."""
    first, last = batch[0][0], batch[-1][0]
    return first if first == last else f"{first} to {last.rpartition(':')[2]}"


def kind_of(value):
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object")


def detect_format(row, where):
    for name, keys in FORMATS:
        if all(key in row for key in keys):
            return name
    raise PrepareError(
        336,
        f"the format of a row with the keys {', '.join(row) or '(none)'} is not known. Rows hold "
        "`messages`, `prompt` and `completion` (or `raw_answers`), `text`, or `input_ids`",
        where,
    )


def text_of(row, key, where):
    value = row.get(key)
    if not isinstance(value, str):
        got = "nothing" if key not in row else kind_of(value)
        raise PrepareError(336, f"`{key}`: expected text, got {got}", where)
    check_encodable(value, key, where)
    return value


def given_answers(row, where):
    """raw_answers of a row, else answers: a text or a list of texts; none where there are none."""
    key = "raw_answers" if row.get("raw_answers") is not None else "answers"
    answers = row.get(key)
    if answers is None:
        return []
    answers = answers if isinstance(answers, list) else [answers]
    for answer in answers:
        if not isinstance(answer, str):
            got = kind_of(answer)
            raise PrepareError(336, f"`{key}`: expected text or a list of texts, got {got}", where)
        check_encodable(answer, key, where)
    return answers


def completion_of(row, where):
    """The completion of a prompt; of a row with answers instead, as the ESFT authors' rows for
    evaluation have them, the first answer after a blank: their prompts end with `Assistant:`."""
    if "completion" in row:
        return text_of(row, "completion", where)
    answers = given_answers(row, where)
    if not answers:
        raise PrepareError(336, "`raw_answers`: expected an answer, got none", where)
    check_encodable(answers[0], "raw_answers", where)
    return " " + answers[0].strip()


def check_encodable(text, key, where):
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PrepareError(
            337, f"`{key}` holds half a surrogate pair at character {error.start}", where
        ) from error


def messages_of(row, where):
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise PrepareError(336, "`messages`: expected a list of messages", where)
    for number, message in enumerate(messages):
        name = f"messages[{number}]"
        if not isinstance(message, dict):
            raise PrepareError(336, f"`{name}`: expected an object, got {kind_of(message)}", where)
        if not isinstance(message.get("role"), str):
            raise PrepareError(336, f"`{name}.role`: expected text", where)
        if message.get("content") is None and message.get("tool_calls"):
            continue
        content = message.get("content")
        if not isinstance(content, str):
            raise PrepareError(
                336, f"`{name}.content`: expected text, got {kind_of(content)}", where
            )
        check_encodable(content, f"{name}.content", where)
    return messages


def no_template(wanted, where):
    """The error of messages without a chat template; wanted: what was asked for."""
    reason = (
        "data.template is none"
        if wanted == "none"
        else "the model has none. Set data.template to a jinja file"
    )
    return PrepareError(338, f"rows of messages need a chat template, and {reason}", where)


def check_vocabulary(ids, size, where):
    """size: of the model's vocabulary, or None where that is not known."""
    if size is not None and max(ids) >= size:
        raise PrepareError(
            330,
            f"token id {max(ids)}, but the model's vocabulary has {size} (config.json). The "
            "tokenizer is not this model's",
            where,
        )


def is_masked(message):
    """Whether a message asks not to be trained: `mask: 1` (the ESFT authors) or `train: false`."""
    return message.get("mask") in (1, True) or message.get("train") is False


def tokens_of(row, where):
    """(ids, mask) of a tokenized row."""
    ids = row.get("input_ids")
    if not isinstance(ids, list) or not ids:
        raise PrepareError(336, "`input_ids`: expected a list of token ids", where)
    for position, token in enumerate(ids):
        if type(token) is not int or not 0 <= token < 2**31:
            raise PrepareError(336, f"`input_ids[{position}]`: {token!r} is no token id", where)
    labels = row.get("labels")
    if labels is None:
        return ids, [1] * len(ids)
    if not isinstance(labels, list) or len(labels) != len(ids):
        got = f"a list of {len(labels)}" if isinstance(labels, list) else kind_of(labels)
        raise PrepareError(336, f"`labels`: expected a list of {len(ids)}, got {got}", where)
    for position, (label, token) in enumerate(zip(labels, ids)):
        if type(label) is not int or label not in (token, NOT_IN_LOSS):
            raise PrepareError(
                336,
                f"`labels[{position}]`: expected the id there ({token}) or {NOT_IN_LOSS}, got "
                f"{label!r}. Labels are not shifted",
                where,
            )
    return ids, [int(label != NOT_IN_LOSS) for label in labels]
