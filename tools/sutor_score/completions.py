"""Reads completions, in the shape of the ESFT authors' files, and writes them back with scores.

A line is {"example": {"prompt", "raw_prediction", "raw_answers"}, "score"}; other keys are kept.
raw_answers is a text, or a list of texts of which any is right.
"""

import dataclasses

from sutor_prepare.errors import PrepareError
from sutor_prepare.lines import write_json_lines
from sutor_rows.reader import RowReader
from sutor_rows.values import kind_of


@dataclasses.dataclass
class Completion:
    where: str  # "file.jsonl:12"
    row: dict
    prompt: object  # text, or null where the prompt was given as tokens
    prediction: str
    answers: list


def read_completions(path):
    completions = [_completion(row, where) for where, row in RowReader(path)]
    if not completions:
        raise PrepareError(334, f"{path} holds no rows")
    return completions


def _completion(row, where):
    example = row.get("example")
    if not isinstance(example, dict):
        raise PrepareError(
            336,
            f"`example`: expected an object, got {_got(row, 'example')}. A line of completions is "
            '{"example": {"prompt": ..., "raw_prediction": ..., "raw_answers": ...}, "score": ...}',
            where,
        )
    prediction = example.get("raw_prediction")
    if not isinstance(prediction, str):
        got = _got(example, "raw_prediction")
        raise PrepareError(336, f"`example.raw_prediction`: expected text, got {got}", where)
    return Completion(where, row, example.get("prompt"), prediction, _answers(example, where))


def _answers(example, where):
    answers = example.get("raw_answers")
    if answers is None:
        return []
    if isinstance(answers, str):
        return [answers]
    if not isinstance(answers, list):
        got = kind_of(answers)
        raise PrepareError(
            336, f"`example.raw_answers`: expected text or a list of texts, got {got}", where
        )
    for number, answer in enumerate(answers):
        if not isinstance(answer, str):
            raise PrepareError(
                336,
                f"`example.raw_answers[{number}]`: expected text, got {kind_of(answer)}",
                where,
            )
    return answers


def _got(row, key):
    return kind_of(row[key]) if key in row else "nothing"


def write_scored(path, completions, scores):
    """Writes the rows with their scores, a number or an object by scorer, in place of the old."""
    rows = zip(completions, scores, strict=True)
    write_json_lines(path, ({**completion.row, "score": score} for completion, score in rows))
