"""Checks of the values of rows that all forms share."""

from sutor_rows.row_messages import check_encodable
from sutor_rows.values import kind_of

from .errors import PrepareError


def range_of(batch):
    """Of a list of (where, ...): the first and the last."""
    first, last = batch[0][0], batch[-1][0]
    return first if first == last else f"{first} to {last.rpartition(':')[2].strip()}"


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
    """Whether a message of row_messages.py asks not to be trained."""
    return message.get("_train") is False
