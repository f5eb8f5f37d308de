"""The report as text for a terminal."""

from sutor_store.look import seen

from .findings import findings_of

BAR = 40
EXCERPT = 100  # characters


def text_page(report):
    lines = ["", "The data in one page"]
    found = findings_of(report)
    lines += [f"  {'! ' if found else ''}{line}" for line in found or ["nothing stands out"]]
    for each in report["sets"]:
        lines += ["", *_of_set(each)]
    for each in report["overlaps"]:
        lines += ["", *_of_overlap(each)]
    return "\n".join(lines)


def _of_set(each):
    share = 100 * each["trained"] / each["tokens"]
    length = each["length"]
    yield (f"{each['kind']} {each['name']}: {each['documents']:,} documents, {each['tokens']:,} "
           f"tokens, {share:.1f}% in the loss")
    yield (f"  length in tokens: {length['least']:,} least, {length['median']:,} median, "
           f"{length['p95']:,} for 95%, {length['most']:,} most; {each['too_long']:,} beyond "
           "data.seq_len")
    most = max(count for _, _, count, _ in length["bins"])
    for low, high, count, tokens in length["bins"]:
        bar = "#" * (-(-BAR * count // most))
        yield (f"  {low:>8,} to {high:>8,}  {count:>10,}  "
               f"{100 * tokens / each['tokens']:5.1f}% of tokens  {bar}")
    yield (f"  in the loss: {each['without_loss']:,} documents without; by share of their tokens "
           "(tenths from 0-10% to 90-100%): " + " ".join(f"{n:,}" for n in each["shares"][1:]))
    yield (f"  duplicates: {each['exact_duplicates']:,} exact, "
           f"{'' if each['near_complete'] else 'at least '}{each['near_duplicates']:,} near")
    for one, other, text in each["near_examples"]:
        yield f"    {other:,} is nearly {one:,}: {_short(text)}"
    if each["has_text"]:
        yield (f"  answers: {each['answers']:,}, {each['empty_answers']:,} empty; "
               f"{each['open_ended']:,} documents end without an end token, {each['unfinished']:,} "
               "long answers inside a sentence")
        for number, what, text in each["cut_examples"]:
            yield f"    {number:,}: {what}: {_short(text, end=True)}"
        total = max(each["characters"], 1)
        yield "  characters: " + ", ".join(f"{name} {100 * count / total:.1f}%"
                                           for name, count in each["scripts"][:8])
        for name, count, rows in each["unseen"]:
            yield f"    {count:,} {name} in {rows:,} documents"
        if not each["unseen"]:
            yield "    none that is not seen"
    else:
        yield "  rows of tokens, or made with another tokenizer: no text to look at"
    if each["oddest"]:
        yield "  the oddest documents"
    for number, reason, text in each["oddest"]:
        yield f"    {number:,}: {reason}: {_short(text)}"


def _of_overlap(each):
    yield (f"eval {each['name']} against the rows for training: of {each['documents']:,} documents "
           f"{each['copies']:,} are there exactly, {each['half']:,} with half of their "
           f"n-grams ({each['among']:,} with the answer's), {each['any']:,} with any")
    for number, share, answered, text in each["examples"]:
        yield f"    {number:,} (answer {answered:.0%}, all {share:.0%}): {_short(text)}"


def _short(text, end=False):
    line = seen(" ".join(text.split()))
    if len(line) <= EXCERPT:
        return line
    return "..." + line[-EXCERPT:] if end else line[:EXCERPT] + "..."
