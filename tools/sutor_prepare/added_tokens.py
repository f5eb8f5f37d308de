"""Tokens that the files beside a tokenizer.json name: added to it as transformers 5 does.

`added_tokens_decoder` of tokenizer_config.json has the last word. Where it is absent, what
special_tokens_map.json and added_tokens.json say counts as well. Named tokens (`eos_token`, ...)
and additional special tokens that no list holds come after the others.
"""

import os

import tokenizers

from .chat import read_json
from .errors import PrepareError
from .limits import Watched, row_seconds

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
# In the order in which transformers adds them.
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MORE = ("extra_special_tokens", "additional_special_tokens")
MOST_ADDED = 1 << 16  # the library compares each with all others
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def text_of_token(value):
    """Of a token in a JSON file, which is a text or an object with `content`; None of others."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _token(value, given):
    flags = value if isinstance(value, dict) else {}
    flags = {flag: flags[flag] for flag in FLAGS if isinstance(flags.get(flag), bool)}
    return tokenizers.AddedToken(text_of_token(value), **{**flags, **given})


class TokenFiles:
    """What the neighbours of a tokenizer.json in `folder` say."""

    def __init__(self, folder):
        self._folder = folder
        self.config = read_json(os.path.join(folder, CONFIG))
        decides = "added_tokens_decoder" in self.config
        others = {} if decides else read_json(os.path.join(folder, MAP))
        named = {**self.config, **others}
        self.named = {}  # the tokens that have a name, such as eos_token
        for key in [*NAMED, *(key for key in named if key not in NAMED)]:
            if key.endswith("_token") and text_of_token(named.get(key)) is not None:
                self.named[key] = named[key]
        self._more = []
        for key in MORE:
            for each in (self.config.get(key), others.get(key)):
                if isinstance(each, dict):  # by name
                    self.named |= {k: v for k, v in each.items() if text_of_token(v) is not None}
                elif isinstance(each, list):
                    self._more += [value for value in each if text_of_token(value) is not None]
        self._decoder = self._listed(decides)

    def says(self, key):
        """Whether a file names the token at all, be it as null."""
        return key in self.config or key in self.named

    def specials(self):
        """The texts of tokens that a file gives a name or calls special."""
        return {text_of_token(value) for value in [*self.named.values(), *self._more]}

    def _listed(self, decides):
        """{id: (token, file)} of the lists that give ids."""
        listed = {}
        if decides:
            entries = self.config["added_tokens_decoder"]
            for key, value in self._entries(entries, CONFIG, "added_tokens_decoder"):
                if not key.isdecimal() or text_of_token(value) is None:
                    self._bad(CONFIG, f"added_tokens_decoder has {key!r}: {value!r}")
                listed[int(key)] = _token(value, {}), CONFIG
            return listed
        path = os.path.join(self._folder, ADDED)
        for text, number in self._entries(read_json(path), ADDED, "the file"):
            if not text or type(number) is not int or number < 0:
                self._bad(ADDED, f"it has {text!r}: {number!r}")
            special = text in self.specials()
            flags = {"normalized": not special, "special": special}
            listed[number] = _token(text, flags), ADDED
        return listed

    def _entries(self, entries, file, what):
        if not isinstance(entries, dict):
            self._bad(file, f"{what} is no object")
        if len(entries) > MOST_ADDED:
            self._bad(file, f"{what} has {len(entries):,} tokens; at most {MOST_ADDED:,} are taken")
        return entries.items()

    def _bad(self, file, what):
        raise PrepareError(
            338, f"{os.path.join(self._folder, file)}: expected ids and tokens, but {what}"
        )

    def add_to(self, tokenizer):
        """Adds what the tokenizer lacks. A list whose ids the tokenizer does not give is refused:
        of two files that disagree neither is known to be the one the model was trained with."""
        have = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
        own = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        new, known = [], set(own)
        for _, (token, file) in sorted(self._decoder.items()):
            if file == ADDED and token.content in own:
                continue  # tokenizer.json describes it better
            known.add(token.content)
            if repr(token) not in have:
                new.append(token)
        named = {text_of_token(value) for value in self.named.values()}
        for token in new:
            token.special = token.special or token.content in named
        for value in [*self.named.values(), *self._more]:
            if text_of_token(value) not in known:
                known.add(text_of_token(value))
                new.append(_token(value, {"special": True}))
        seconds = row_seconds() + len(new) / 1000
        with Watched("adding tokens to the tokenizer", self._folder, seconds, mebibytes=512):
            tokenizer.add_tokens(new)
        for number, (token, file) in self._decoder.items():
            got = tokenizer.token_to_id(token.content)
            if got != number:
                raise PrepareError(
                    338,
                    f"{os.path.join(self._folder, file)} gives {token.content!r} the id {number}, "
                    f"but with tokenizer.json it is {got}: the two files disagree. Keep those that "
                    "belong to the model",
                )
