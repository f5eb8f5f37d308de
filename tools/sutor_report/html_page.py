"""The report as one HTML file without scripts and without anything from elsewhere. All text of rows
and names is escaped."""

import html

from sutor_store.look import seen

from .findings import findings_of

STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #2f6fb3; --mark: #b3562f; --dim: #8889; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.2rem;
  border-bottom: 1px solid var(--line) } h3 { font-size: 1rem; margin-bottom: .3rem }
table { border-collapse: collapse; width: 100%; margin: .8rem 0 }
td, th { padding: .2rem .6rem; text-align: left;
  vertical-align: top; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.t { font: 12.5px/1.4 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere }
.find { border-left: 4px solid var(--mark); padding: .3rem .8rem; margin: .4rem 0 }
.fine { border-left-color: var(--bar) } .dim { opacity: .7 }
.chart { width: 100%; height: auto } .chart rect { fill: var(--bar) }
.chart rect.long { fill: var(--mark) } .chart text { font-size: 11px; fill: currentColor }
"""


def escaped(text):
    return html.escape(seen(str(text)))


def html_page(report):
    found = findings_of(report)
    title = "The data in one page"
    body = [f"<h1>{title}</h1>"]
    body += [f'<p class="find">{escaped(line)}</p>' for line in found]
    if not found:
        body.append('<p class="find fine">Nothing stands out.</p>')
    body.append(_overview(report))
    for each in report["sets"]:
        body += _of_set(each, report)
    if report["overlaps"]:
        body.append("<h2>Rows for evaluation among those for training</h2>")
        body.append("<p>By n-grams of 13 tokens that both have; those that a tenth of a set's rows "
                    "share, the words of a template or a prompt, count for nothing.</p>")
    for each in report["overlaps"]:
        body += _of_overlap(each)
    body.append(f'<p class="dim">{escaped(report["producer"])}</p>')
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{STYLE}</style></head><body>\n"
            + "\n".join(body) + "\n</body></html>\n")


def _table(head, rows):
    """head: (name, class) of the columns; rows: of cells."""
    def cell(tag, value, kind):
        return f'<{tag} class="{kind}">{escaped(value)}</{tag}>'
    lines = ["<table><tr>" + "".join(cell("th", name, kind if kind == "n" else "")
                                     for name, kind in head) + "</tr>"]
    for row in rows:
        lines.append("<tr>" + "".join(cell("td", value, kind)
                                      for value, (_, kind) in zip(row, head)) + "</tr>")
    return "".join(lines) + "</table>"


def _overview(report):
    head = [("set", ""), ("for", ""), ("documents", "n"), ("tokens", "n"), ("in the loss", "n"),
            ("median length", "n"), ("longest", "n"), ("duplicates", "n")]
    return _table(head, [
        (each["name"], {"train": "training", "eval": "evaluation"}[each["kind"]],
         f"{each['documents']:,}", f"{each['tokens']:,}",
         f"{100 * each['trained'] / each['tokens']:.1f}%", f"{each['length']['median']:,}",
         f"{each['length']['most']:,}",
         f"{each['exact_duplicates'] + each['near_duplicates']:,}")
        for each in report["sets"]])


def _chart(bars, name):
    """bars: (label, count, whether beyond the limit)."""
    width, height, top, bottom = 720, 170, 16, 22
    step = width / max(len(bars), 1)
    most = max([count for _, count, _ in bars] + [1])
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
             f'aria-label="{escaped(name)}">']
    for at, (label, count, beyond) in enumerate(bars):
        size = (height - top - bottom) * count / most
        size = max(size, 1) if count else 0
        middle = (at + 0.5) * step
        parts.append(
            f'<rect class="{"long" if beyond else ""}" x="{at * step + step * 0.1:.1f}" '
            f'y="{height - bottom - size:.1f}" width="{step * 0.8:.1f}" height="{size:.1f}"/>'
            f'<text x="{middle:.1f}" y="{height - bottom - size - 4:.1f}" text-anchor="middle">'
            f'{count:,}</text><text x="{middle:.1f}" y="{height - 6}" text-anchor="middle">'
            f"{escaped(label)}</text>")
    return "".join(parts) + "</svg>"


def _of_set(each, report):
    yield f"<h2>{escaped(each['kind'])} {escaped(each['name'])}</h2>"
    length = each["length"]
    yield (f"<h3>Length in tokens</h3><p>{length['least']:,} least, {length['median']:,} median, "
           f"{length['p95']:,} for 95%, {length['most']:,} most. {each['too_long']:,} documents "
           f"are longer than data.seq_len ({report['seq_len']:,}).</p>")
    yield _chart([(f"≤ {high:,}", count, low > report["seq_len"])
                  for low, high, count, _ in length["bins"]], "documents by length")
    yield (f"<h3>Share of a document in the loss</h3><p>{each['trained']:,} of {each['tokens']:,} "
           f"tokens; {each['without_loss']:,} documents without any.</p>")
    labels = ["none"] + [f"≤ {10 * tenth}%" for tenth in range(1, 11)]
    yield _chart([(label, count, label == "none")
                  for label, count in zip(labels, each["shares"])], "documents by share")
    near = "" if each["near_complete"] else "at least "
    yield (f"<h3>Duplicates</h3><p>{each['exact_duplicates']:,} documents are exactly an earlier "
           f"one, {near}{each['near_duplicates']:,} nearly (four fifths of their 5-grams).</p>")
    if each["near_examples"]:
        yield _table([("document", "n"), ("nearly", "n"), ("text", "t")],
                     [(f"{other:,}", f"{one:,}", text)
                      for one, other, text in each["near_examples"]])
    if each["has_text"]:
        yield from _of_text(each)
    else:
        yield ("<p>Rows of tokens, or made with another tokenizer: there is no text to look "
               "at.</p>")
    if each["oddest"]:
        yield "<h3>The oddest documents</h3>"
        yield _table([("document", "n"), ("why", ""), ("text", "t")],
                     [(f"{number:,}", reason, text) for number, reason, text in each["oddest"]])


def _of_text(each):
    yield (f"<h3>Answers</h3><p>{each['answers']:,} answers, {each['empty_answers']:,} of them "
           f"empty. {each['open_ended']:,} documents end without an end token in the loss; "
           f"{each['unfinished']:,} long answers end inside a sentence.</p>")
    if each["cut_examples"]:
        yield _table([("document", "n"), ("why", ""), ("its end", "t")],
                     [(f"{number:,}", what, text)
                      for number, what, text in each["cut_examples"]])
    yield "<h3>Characters</h3>"
    total = max(each["characters"], 1)
    yield _table([("script", ""), ("characters", "n"), ("share", "n")],
                 [(name, f"{count:,}", f"{100 * count / total:.2f}%")
                  for name, count in each["scripts"]])
    if each["unseen"]:
        yield "<p>Characters that are not seen:</p>"
        yield _table([("kind", ""), ("characters", "n"), ("documents", "n")],
                     [(name, f"{count:,}", f"{rows:,}") for name, count, rows in each["unseen"]])
    else:
        yield "<p>None that is not seen.</p>"


def _of_overlap(each):
    yield (f"<h3>{escaped(each['name'])}</h3><p>Of {each['documents']:,} documents "
           f"{each['copies']:,} are there exactly, {each['half']:,} with half of their "
           f"n-grams ({each['among']:,} with the answer's), {each['any']:,} with any.</p>")
    if each["examples"]:
        yield _table([("document", "n"), ("of its answers", "n"), ("of all", "n"), ("text", "t")],
                     [(f"{number:,}", f"{answered:.0%}", f"{share:.0%}", text)
                      for number, share, answered, text in each["examples"]])
