"""Begin and end tokens: those at which generation stops, and those of plain text, which stand once.
"""

import os

from .chat import read_json

GENERATION, CONFIG = "generation_config.json", "config.json"
COUNTED = "ends_with_"  # and an id: a count of the turns, or texts, that end with it in the loss


def trained_ends(counts):
    """{id: how often} of the tokens that end what is trained, among the counts of a data set."""
    return {int(name.removeprefix(COUNTED)): count for name, count in counts.items()
            if name.startswith(COUNTED) and count}


def _ids(values):
    ids = values.get("eos_token_id")
    ids = ids if isinstance(ids, list) else [ids]
    return [number for number in ids if type(number) is int and 0 <= number < 1 << 31]


class EndTokens:
    """What a model's files say of where generation stops. eos_id: of the tokenizer, or -1."""

    def __init__(self, model, eos_id):
        generation = _ids(read_json(os.path.join(model, GENERATION)))
        config = _ids(read_json(os.path.join(model, CONFIG)))
        self._file = GENERATION if generation else CONFIG
        # Where transformers stops: the one file, or else the other.
        self.of_model = generation or config
        self.all = set(generation) | set(config) | ({eos_id} - {-1})

    def disagreement(self, trained, name_of):
        """A sentence when rows train ends at which the model's files do not stop; else None.

        trained: {id: how often}; name_of: the text of an id.
        """
        missing = {number: count for number, count in trained.items()
                   if number not in self.of_model}
        if not missing:
            return None
        shown = ", ".join(f"{name_of(number)} ({number}, {count:,} times)"
                          for number, count in sorted(missing.items()))
        here = ", ".join(f"{name_of(number)} ({number})" for number in self.of_model)
        says = f"{self._file} names {here}" if here else f"{GENERATION} and {CONFIG} name none"
        return (
            f"the end token {shown} is in the loss, but {says}. Generation here stops at all of "
            f"them, and a merged export's {GENERATION} will name them; other programs that use "
            "the base's files would run over it"
        )


def frame(tokenizer, texts):
    """(begin, end, already): the parts before and behind a document of these texts, without those
    that the texts have themselves, and whether there are such.

    tokenizer: an encode.ModelTokenizer.
    """
    whole = [text for text in texts if text.strip()]
    begin = [(tokenizer.bos_id, False)] if tokenizer.add_bos else []
    end = [(tokenizer.eos_id, True)] if tokenizer.eos_id >= 0 else []
    first, last = (whole[0].lstrip(), whole[-1].rstrip()) if whole else ("", "")
    begins = begin and first.startswith(tokenizer.written("bos_token"))
    ends = end and last.endswith(tokenizer.written("eos_token"))
    return [] if begins else begin, [] if ends else end, bool(begins or ends)
