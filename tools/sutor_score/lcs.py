"""The longest common subsequence of two lists of words."""

import collections

# Words that stand more often are few; what is made of them is kept.
OFTEN = 64


def longest_common_subsequence(a, b):
    """Its length. A row of the table is one whole number with a bit a word (Hyyro 2004), so two
    texts of 200,000 words take seconds."""
    places = collections.defaultdict(list)
    for place, word in enumerate(a):
        places[word].append(place)
    kept = {}

    def matches(word):
        """The bits of the places in a."""
        bits = kept.get(word)
        if bits is None:
            here = places[word]
            array = bytearray(here[-1] // 8 + 1)
            for place in here:
                array[place >> 3] |= 1 << (place & 7)
            bits = int.from_bytes(array, "little")
            if len(here) > OFTEN:
                kept[word] = bits
        return bits

    full = (1 << len(a)) - 1
    row = full
    for word in b:
        if word not in places:
            continue
        both = row & matches(word)
        if both:
            row = ((row + both) | (row - both)) & full
    return len(a) - row.bit_count()
