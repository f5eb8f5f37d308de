"""Generated token ids -> completions in the shape of the ESFT authors' files."""

from sutor_prepare.errors import PrepareError
from sutor_rows.reader import RowReader
from sutor_rows.values import kind_of

BATCH_ROWS = 512


class AnswerSource:
    """Iterates over {"example": {"prompt", "raw_prediction", "raw_answers"}, "score": None}.

    Rows are {"ids", "example": {...}}; further keys of row and example are kept. The ids count up
    to the first of `stop_ids`; special tokens leave no text. The text is what the tokenizer makes
    of these ids alone: with sentencepiece's kind a blank at its beginning is lost.
    """

    def __init__(self, path, tokenizer, stop_ids):
        self.reader = RowReader(path)
        self._tokenizer = tokenizer.tokenizer
        self._stop_ids = frozenset(stop_ids)
        self.counts = {"completions": 0, "stopped": 0, "tokens": 0, "unknown_ids": 0}

    def __iter__(self):
        batch = []
        for where, row in self.reader:
            batch.append((row, self._generated(row, where)))
            if len(batch) == BATCH_ROWS:
                yield from self._completions(batch)
                batch = []
        yield from self._completions(batch)

    def _generated(self, row, where):
        ids = row.get("ids")
        if not isinstance(ids, list) or any(type(token) is not int or token < 0 for token in ids):
            raise PrepareError(336, "`ids`: expected a list of token ids", where)
        if not isinstance(row.get("example"), dict):
            got = kind_of(row["example"]) if "example" in row else "nothing"
            raise PrepareError(336, f"`example`: expected an object, got {got}", where)
        end = next((i for i, token in enumerate(ids) if token in self._stop_ids), None)
        self.counts["completions"] += 1
        self.counts["tokens"] += len(ids)
        self.counts["stopped"] += end is not None
        kept = ids[:end]
        # A model's vocabulary may be padded; the library passes over ids that it does not know.
        self.counts["unknown_ids"] += sum(self._tokenizer.id_to_token(i) is None for i in kept)
        return kept

    def _completions(self, batch):
        texts = self._tokenizer.decode_batch([ids for _, ids in batch], skip_special_tokens=True)
        for (row, _), text in zip(batch, texts):
            example = {
                "prompt": row["example"].get("prompt"),
                "raw_prediction": text,
                "raw_answers": row["example"].get("raw_answers"),
            }
            others = {key: row[key] for key in row if key not in ("ids", "example", "score")}
            yield {"example": {**row["example"], **example}, "score": None, **others}
