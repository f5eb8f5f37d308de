"""Rows -> prompts ready for generation."""

from sutor_prepare import rows as row_kinds
from sutor_prepare.encode import Encoder
from sutor_prepare.errors import PrepareError
from sutor_rows.reader import RowReader

from .prompt_rows import PromptMaker

BATCH_ROWS = 512
# A batch also ends at this size, so that long rows do not pile up.
BATCH_CHARACTERS = 1 << 22


class PromptSource:
    """Iterates over {"ids", "example": {"prompt", "raw_answers"}}, and counts rows by kind."""

    def __init__(self, job, tokenizer, template, model_vocab):
        self._job = job
        self._tokenizer = tokenizer
        self._vocab = model_vocab
        self._maker = PromptMaker(job, tokenizer, template)
        self.reader = RowReader(job["rows"], job.get("files"))
        self.counts = {
            "prompts": 0,
            "with_answers": 0,
            "dropped": 0,  # longer than max_prompt_tokens
            "cut": 0,
            "empty": 0,  # dropped too: there is nothing to start from
            "tokens": 0,
            "longest": 0,
        }

    @property
    def format(self):
        return "prompt" if self._maker.form == "completion" else self._maker.form

    def special_in_text(self):
        """Rows with the text of a special token, which became that token."""
        return self._maker.special_in_text

    def end_tokens(self):
        """The ids at which the model's files, the tokenizer and the chat template end a turn."""
        return self._maker.end_tokens()

    def __iter__(self):
        batch, characters = [], 0
        for where, row in self.reader:
            prompt = self._maker.of(row, where)
            if prompt is None:
                continue
            batch.append((where, *prompt))
            characters += len(batch[-1][2] or "")
            if len(batch) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
                yield from self._prompts(batch)
                batch, characters = [], 0
        yield from self._prompts(batch)
        if self.reader.rows == 0:
            raise PrepareError(334, f"{self.reader.path} holds no rows")
        if self.counts["prompts"] == 0:
            raise PrepareError(
                334,
                f"{self.reader.path}: no prompt is left of {self.reader.rows:,} rows: "
                f"{self.counts['dropped']:,} have more than {self._job['max_prompt_tokens']} "
                f"tokens, {self.counts['empty']:,} are empty",
            )

    def _prompts(self, batch):
        for (where, _, text, answers), ids in zip(batch, self._encoded(batch)):
            ids = self._fitting(ids)
            if not ids:
                continue
            row_kinds.check_vocabulary(ids, self._vocab, where)
            self.counts["prompts"] += 1
            self.counts["with_answers"] += bool(answers)
            self.counts["tokens"] += len(ids)
            self.counts["longest"] = max(self.counts["longest"], len(ids))
            yield {"ids": ids, "example": {"prompt": text, "raw_answers": answers}}

    def _encoded(self, batch):
        documents = [parts for _, parts, _, _ in batch]
        if self.format == "tokens":
            return [[token for token, _ in parts] for parts in documents]
        if not batch:
            return []
        where = row_kinds.range_of(batch)
        return [ids for ids, _ in Encoder(self._tokenizer()).encode(documents, where)]

    def _fitting(self, ids):
        """The ids that may be used: none, all, or the last ones with the begin token kept."""
        most = self._job["max_prompt_tokens"]
        if not ids:
            self.counts["empty"] += 1
        if not most or len(ids) <= most:
            return ids
        if self._job["too_long"] == "drop":
            self.counts["dropped"] += 1
            return []
        self.counts["cut"] += 1
        keeps_begin = self.format != "tokens" and ids[0] == self._tokenizer().bos_id and most > 1
        return ids[:1] + ids[1 - most :] if keeps_begin else ids[-most:]


def result_of(source, tokenizer):
    """The object that is printed at the end; tokenizer: None for rows of tokens."""
    return {
        "format": source.format,
        "rows": source.reader.rows,
        **source.counts,
        "special_in_text": source.special_in_text(),
        "bos_id": tokenizer.bos_id if tokenizer else -1,
        "eos_id": tokenizer.eos_id if tokenizer else -1,
        "end_tokens": sorted(source.end_tokens()) if tokenizer else [],
        "eos_token": tokenizer.special_tokens.get("eos_token") if tokenizer else None,
    }
