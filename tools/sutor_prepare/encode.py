"""Texts with marked parts -> token ids and loss masks.

A document is a list of parts: (text or token id, whether it is in the loss); of a text also flags
of stretches of it (spans.py).
"""

import hashlib
import json
import os
import re

import tokenizers

from .added_tokens import TokenFiles, text_of_token
from .chat import read_json
from .ends import EndTokens
from .errors import PrepareError
from .files import read_input
from .limits import MIB, Limited, Watched, row_seconds
from .spans import flags_of_tokens


# What encoding takes at most: the characters of a second of processor time, and memory.
SLOWEST, BYTES_A_CHARACTER = 50_000, 400
SLOWEST_LOAD = 5_000_000  # bytes of a tokenizer.json in a second of processor time


def vocabulary_of(config):
    """vocab_size of a config.json; None where it has none."""
    size = config.get("vocab_size")
    return size if type(size) is int and size > 0 else None


def pattern_of(texts):
    """A pattern of any of the texts, the longest first."""
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


class ModelTokenizer:
    """The tokenizer.json of a model and what its neighbours say about special tokens."""

    def __init__(self, wanted, model):
        """wanted: auto (the model's), a tokenizer.json, or a folder with one."""
        path = model if wanted == "auto" else wanted
        if os.path.isdir(path) or wanted == "auto":
            path = os.path.join(path, "tokenizer.json")
        if not os.path.lexists(path):
            raise PrepareError(
                338, f"{path} does not exist. Set data.tokenizer to a tokenizer.json"
            )
        content = read_input(path, 338)
        try:
            seconds = row_seconds() + len(content) / SLOWEST_LOAD
            with Limited("the tokenizer", path, seconds, mebibytes=768):
                self.tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
                self._description = json.loads(content)
        except BaseException as error:  # the library raises plain Exception, and panics
            if isinstance(error, (PrepareError, KeyboardInterrupt)):
                raise
            raise PrepareError(338, f"{path} is no tokenizer: {error}") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.path = path
        self._written = {}
        self.digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.folders = list(dict.fromkeys([os.path.dirname(path) or ".", model]))
        files = TokenFiles(self.folders[0])
        files.add_to(self.tokenizer)
        added = self.tokenizer.get_added_tokens_decoder().values()
        special = {token.content for token in added if token.special} | files.specials()
        self._name_special_tokens(files, model)
        self.ends = EndTokens(model, self.eos_id)
        known = {self.tokenizer.id_to_token(number) for number in self.ends.all} - {None}
        self.end_pattern = pattern_of(known)
        self.special_pattern = pattern_of(special | known)

    def _name_special_tokens(self, files, model):
        """bos, eos and the names that templates use. The model's config.json is the last resort."""
        self.special_tokens = {key: text_of_token(value) for key, value in files.named.items()}
        model_config = read_json(os.path.join(model, "config.json"))
        self.model_vocab = vocabulary_of(model_config)
        for key in ("bos_token", "eos_token"):
            ids = model_config.get(key + "_id")
            ids = ids[0] if isinstance(ids, list) and ids else ids
            if not files.says(key) and type(ids) is int and 0 <= ids < 1 << 31:
                text = self.tokenizer.id_to_token(ids)
                if text is not None:
                    self.special_tokens[key] = text
        self.bos_id = self._id_of("bos_token")
        self.eos_id = self._id_of("eos_token")
        adds = files.config.get("add_bos_token")
        self.add_bos = self.bos_id >= 0 and (self._adds_bos(files) if adds is None else bool(adds))
        if any(part["type"] == "ByteLevel" for part in self.parts_of("pre_tokenizer")):
            # Offsets that leave out no blank; what it adds to a text has been looked at.
            self.tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)

    def _id_of(self, key):
        text = self.special_tokens.get(key)
        token = self.tokenizer.token_to_id(text) if text is not None else None
        return -1 if token is None else token

    def _adds_bos(self, files):
        if not files.config and not files.named:
            return True  # a bare tokenizer.json: what config.json names is used
        ids = self._ids_of("x", add_special_tokens=True)
        return bool(ids) and ids[0] == self.bos_id

    def written(self, key):
        """The text that becomes the token of this name; a tuple of none where no text does."""
        if key not in self._written:
            self._written[key] = self._text_that_becomes(key)
        return self._written[key]

    def _text_that_becomes(self, key):
        text = self.special_tokens.get(key)
        if text is None:
            return ()
        ids = self._ids_of(text, add_special_tokens=False)
        return text if ids == [self.tokenizer.token_to_id(text)] else ()

    def _ids_of(self, text, add_special_tokens):
        """Of a short text. As a batch, as for a single text the library lets no thread watch it."""
        with Watched("the tokenizer", self.path, row_seconds(), 256):
            return self.tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)[0].ids

    def vocab_size(self):
        return self.model_vocab or self.tokenizer.get_vocab_size(with_added_tokens=True)

    def parts_of(self, name):
        """The kinds of the normalizer or pre-tokenizer, sequences flattened."""
        flat, queue = [], [self._description.get(name)]
        while queue:
            part = queue.pop(0)
            if part:
                queue += part.get("normalizers", []) + part.get("pretokenizers", [])
                flat.append(part)
        return flat

    def is_segmentable(self):
        """Whether encoding the parts one by one gives the tokens of inference."""
        levels = [part for part in self.parts_of("pre_tokenizer") if part["type"] == "ByteLevel"]
        prepends = [part for part in self.parts_of("normalizer") if part["type"] == "Prepend"]
        return bool(levels) and not prepends and not any(p.get("add_prefix_space") for p in levels)


class Encoder:
    """Encodes many documents at once."""

    def __init__(self, model_tokenizer):
        self._tokenizer = model_tokenizer.tokenizer
        self._segmentable = model_tokenizer.is_segmentable()

    def encode(self, documents, where=""):
        """For every document (ids, mask), a list and bytes of equal length. where: of the
        documents."""
        joined = [self._joined(parts) for parts in documents]
        # Offsets take time: only where a text is not in the loss as a whole.
        sorts = {False: [], True: []}
        for parts in joined:
            for value, flags in parts:
                if isinstance(value, str):
                    sorts[isinstance(flags, list)].append(value)
        encoded = {with_offsets: iter(self._encodings(texts, with_offsets, where))
                   for with_offsets, texts in sorts.items()}
        return [self._assemble(parts, encoded) for parts in joined]

    def _encodings(self, texts, with_offsets, where):
        if not texts:
            return []
        size = sum(map(len, texts))
        batch = self._tokenizer.encode_batch
        if not with_offsets:
            batch = self._tokenizer.encode_batch_fast
        seconds = row_seconds() + size / SLOWEST
        try:
            with Watched("the tokenizer", where, seconds, 256 + size * BYTES_A_CHARACTER // MIB):
                return batch(texts, add_special_tokens=False)
        except BaseException as error:  # the library raises plain Exception, and panics
            if isinstance(error, (KeyboardInterrupt, MemoryError)):
                raise
            raise PrepareError(338, f"the tokenizer fails: {error}", where) from error

    def _joined(self, parts):
        """Parts as (text or id, what is in the loss): a flag, or flags of stretches of the text."""
        if self._segmentable:
            return [part for part in parts if part[0] != ""]
        result = []
        for value, trained in parts:
            if not isinstance(value, str):
                result.append((value, trained))
                continue
            if not result or not isinstance(result[-1][0], str):
                result.append(("", []))
            text, flags = result[-1]
            if not isinstance(trained, list):
                trained = [(0, len(value), 1)] if trained else []
            at = len(text)
            result[-1] = (text + value, flags + [(at + b, at + e, flag) for b, e, flag in trained])
        return [part for part in result if part[0] != ""]

    @staticmethod
    def _assemble(parts, encoded):
        ids, mask = [], bytearray()
        for value, trained in parts:
            if not isinstance(value, str):
                ids.append(value)
                mask.append(int(trained))
                continue
            encoding = next(encoded[isinstance(trained, list)])
            own = encoding.ids  # a new list at every call
            ids += own
            if isinstance(trained, list):
                mask += bytes(flags_of_tokens(encoding.offsets, trained))
            else:
                mask += bytes([int(trained)]) * len(own)
        return ids, mask
