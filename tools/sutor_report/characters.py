"""Counts the characters of many texts: by script, and those that are not seen."""

import numpy as np

# (name, ranges); what stands in none of them is "other".
SCRIPTS = [
    ("Latin", [(0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6),
               (0xD8, 0xF6), (0xF8, 0x24F), (0x1E00, 0x1EFF), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A)]),
    ("digits", [(0x30, 0x39), (0xFF10, 0xFF19)]),
    ("blanks", [(0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x3000, 0x3000)]),
    ("punctuation and symbols",
     [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xA9), (0xAB, 0xAC),
      (0xAE, 0xB9), (0xBB, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7), (0x2010, 0x2027), (0x2030, 0x205E),
      (0x20A0, 0x2BFF), (0x3001, 0x303F), (0xFE30, 0xFE4F), (0xFF01, 0xFF0F), (0xFF1A, 0xFF20),
      (0xFF3B, 0xFF40), (0xFF5B, 0xFF65)]),
    ("Greek", [(0x370, 0x3FF), (0x1F00, 0x1FFF)]),
    ("Cyrillic", [(0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF)]),
    ("Armenian", [(0x530, 0x58F)]),
    ("Hebrew", [(0x590, 0x5FF)]),
    ("Arabic", [(0x600, 0x61B), (0x61D, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDCF),
                (0xFE70, 0xFEFC)]),
    ("Indic", [(0x900, 0xDFF)]),
    ("Thai and Lao", [(0xE00, 0xEFF)]),
    ("Georgian", [(0x10A0, 0x10FF)]),
    ("Ethiopic", [(0x1200, 0x139F)]),
    ("Hangul", [(0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF)]),
    ("Kana", [(0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)]),
    ("Han", [(0x2E80, 0x2FDF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
             (0x20000, 0x323AF)]),
    ("emoji and pictographs", [(0x1F000, 0x1FAFF)]),
]
UNSEEN = [
    ("zero bytes (U+0000)", [(0x00, 0x00)]),
    ("control characters (C0, DEL, C1)", [(0x01, 0x08), (0x0B, 0x0C), (0x0E, 0x1F), (0x7F, 0x9F)]),
    ("characters of zero width, soft hyphens",
     [(0xAD, 0xAD), (0x180E, 0x180E), (0x200B, 0x200D), (0x2060, 0x2064)]),
    ("marks of direction", [(0x61C, 0x61C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069)]),
    ("byte order marks (U+FEFF)", [(0xFEFF, 0xFEFF)]),
    ("line and paragraph separators", [(0x2028, 0x2029)]),
    ("replacement characters (U+FFFD: broken text)", [(0xFFFD, 0xFFFD)]),
    ("characters of private use", [(0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)]),
    ("tags and variation selectors", [(0xFE00, 0xFE0F), (0xE0000, 0xE01EF)]),
    ("code points that are no characters",
     [(0xFDD0, 0xFDEF)] + [(0x10000 * p + 0xFFFE, 0x10000 * p + 0xFFFF) for p in range(17)]),
]
# Emoji are made with these; they are no sign of a fault.
HARMLESS = ("tags and variation selectors",)
SCRIPT_NAMES = [name for name, _ in SCRIPTS] + ["other"]
UNSEEN_NAMES = [name for name, _ in UNSEEN]
LETTERS = [i for i, name in enumerate(SCRIPT_NAMES)
           if name not in ("digits", "blanks", "punctuation and symbols", "other")]


def _table(kinds, default):
    table = np.full(0x110000, default, dtype=np.uint8)
    for number, (_, ranges) in enumerate(kinds):
        for begin, end in ranges:
            table[begin : end + 1] = number
    return table


class CharacterCounter:
    def __init__(self):
        self._scripts = _table(SCRIPTS, len(SCRIPTS))
        self._unseen = _table(UNSEEN, len(UNSEEN))

    def count(self, texts):
        """(characters of every text, by script [texts, scripts], unseen ones by kind)."""
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
        owners = np.repeat(np.arange(len(texts)), lengths)
        scripts, unseen = (
            np.bincount(owners * width + table[points], minlength=len(texts) * width)
            .reshape(len(texts), width)
            for table, width in ((self._scripts, len(SCRIPTS) + 1),
                                 (self._unseen, len(UNSEEN) + 1))
        )
        return lengths, scripts, unseen[:, :-1]
