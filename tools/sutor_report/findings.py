"""What of a report asks for a decision: a list of sentences, the worst first."""

# Shares of a set beyond which something is worth a word.
DUPLICATES, CUT, FEW_TRAINED = 0.02, 0.02, 0.02


def findings_of(report):
    found = []
    for each in report["overlaps"]:
        if each["among"]:
            found.append(
                f"warning[W0116]: {each['among']:,} of {each['documents']:,} rows of "
                f"{each['name']} are among those for training ({each['copies']:,} exactly, the "
                "others with half of their n-grams, the answer's included): their loss says "
                "little about new rows"
            )
        if each["half"] > each["among"]:
            found.append(
                f"{each['name']}: {each['half'] - each['among']:,} of {each['documents']:,} rows "
                "share half of their n-grams with rows for training, but not the answer's: "
                "examples in prompts?"
            )
    for each in report["sets"]:
        found += _of_set(each, report)
    return found


def _of_set(each, report):
    name, documents = each["name"], each["documents"]
    repeated = each["exact_duplicates"] + each["near_duplicates"]
    if repeated > DUPLICATES * documents:
        yield (f"{name}: {repeated:,} of {documents:,} documents are duplicates "
               f"({each['exact_duplicates']:,} exact, {each['near_duplicates']:,} near): they "
               "train several times")
    if each["without_loss"]:
        yield f"{name}: {each['without_loss']:,} documents have no token in the loss"
    if each["empty_answers"]:
        yield f"{name}: {each['empty_answers']:,} of {each['answers']:,} answers are empty"
    if each["open_ended"] > CUT * documents:
        yield (f"{name}: {each['open_ended']:,} documents end without an end token in the loss: "
               "the model may not learn to stop")
    if each["unfinished"]:
        yield (f"{name}: {each['unfinished']:,} long answers end inside a sentence: they may have "
               "been cut when they were made")
    if each["too_long"]:
        fate = "split" if each["kind"] == "eval" else {
            "drop": "dropped", "truncate": "cut"}.get(report["too_long"], report["too_long"])
        yield (f"{name}: {each['too_long']:,} documents are longer than data.seq_len "
               f"({report['seq_len']:,} tokens) and will be {fate}")
    for kind, count, rows in each["unseen"]:
        if "replacement" in kind or "control" in kind or "zero bytes" in kind:
            yield f"{name}: {count:,} {kind} in {rows:,} documents"
    if each["trained"] < FEW_TRAINED * each["tokens"]:
        yield (f"{name}: {100 * each['trained'] / each['tokens']:.1f}% of the tokens are in the "
               "loss; most of the work is for tokens that train nothing")
