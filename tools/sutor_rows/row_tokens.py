"""Rows of tokens: ids, and which are in the loss, by labels and by other trainers' masks."""

from sutor_prepare.errors import PrepareError

from .row_messages import decoded
from .values import kind_of

NOT_IN_LOSS = -100
MASKS = ("completion_mask", "assistant_masks", "loss_mask", "loss_scale")


def tokens_of(row, where):
    """(ids, mask). A token is in the loss when labels and masks all say so; padding is left out."""
    ids = decoded(row.get("input_ids"), "input_ids", where)
    if not isinstance(ids, list) or not ids:
        raise PrepareError(336, "`input_ids`: expected a list of token ids", where)
    for position, token in enumerate(ids):
        if type(token) is not int or not 0 <= token < 2**31:
            raise PrepareError(336, f"`input_ids[{position}]`: {token!r} is no token id", where)
    begin, end = _without_padding(row, len(ids), where)
    mask = _labelled(row, ids, begin, end, where)
    for key in MASKS:
        values = _flags(row, key, len(ids), where)
        if values is not None:
            mask = [int(flag and value) for flag, value in zip(mask, values)]
    _check_plain(row, begin, end, where)
    return ids[begin:end], mask[begin:end]


def _list_of(row, key, length, where):
    values = decoded(row.get(key), key, where)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != length:
        got = f"a list of {len(values)}" if isinstance(values, list) else kind_of(values)
        raise PrepareError(336, f"`{key}`: expected a list of {length}, got {got}", where)
    return values


def _flags(row, key, length, where):
    values = _list_of(row, key, length, where)
    for position, value in enumerate(values or []):
        if isinstance(value, (bool, int, float)) and value in (0, 1):
            continue
        if key == "loss_scale" and isinstance(value, (int, float)):
            raise PrepareError(
                370, f"`{key}[{position}]` is {value!r}: weights in the loss other than 0 and 1 "
                "are not supported", where,
            )
        raise PrepareError(336, f"`{key}[{position}]`: expected 0 or 1, got {value!r}", where)
    return values


def _without_padding(row, length, where):
    """[begin, end) of what attention_mask lets the model see."""
    seen = _flags(row, "attention_mask", length, where)
    if seen is None:
        return 0, length
    if not any(seen):
        raise PrepareError(336, "`attention_mask`: all tokens are padding", where)
    begin, end = seen.index(1), length - seen[::-1].index(1)
    if not all(seen[begin:end]):
        raise PrepareError(
            370, f"`attention_mask[{begin + seen[begin:end].index(0)}]`: tokens that are hidden "
            "between others are not supported, padding at either end is", where,
        )
    return begin, end


def _labelled(row, ids, begin, end, where):
    labels = _list_of(row, "labels", len(ids), where)
    if labels is None:
        return [1] * len(ids)
    for position in range(begin, end):
        label, token = labels[position], ids[position]
        if type(label) is not int or label not in (token, NOT_IN_LOSS):
            raise PrepareError(
                336,
                f"`labels[{position}]`: expected the id there ({token}) or {NOT_IN_LOSS}, got "
                f"{label!r}. Labels are not shifted",
                where,
            )
    return [int(label != NOT_IN_LOSS) for label in labels]


def _check_plain(row, begin, end, where):
    """Positions and kinds of tokens are those that every model takes without being told."""
    length = len(row["input_ids"])
    positions = _list_of(row, "position_ids", length, where)
    if positions is not None and positions[begin:end] != list(range(end - begin)):
        raise PrepareError(
            370, "`position_ids` other than 0, 1, 2... are not supported: give packed documents as "
            "rows of their own", where,
        )
    kinds = _list_of(row, "token_type_ids", length, where)
    if kinds is not None and any(kinds):
        raise PrepareError(370, "`token_type_ids` other than 0 are not supported", where)
