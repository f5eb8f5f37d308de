"""Text of the page: what comes from a run is escaped here; numbers as people read them."""

import html

from sutor_store.look import seen

from .run import number

NONE = "–"


def escaped(text):
    return html.escape(seen(str(text)))


def bytes_text(value):
    value = number(value)
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            return f"{value:,.0f} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return NONE


def count_text(value):
    value = number(value)
    return NONE if value is None else f"{value:,.0f}"


def loss_text(value):
    value = number(value)
    return NONE if value is None else f"{value:.6f}"


def short_text(value):
    value = number(value)
    return NONE if value is None else f"{value:.4g}"


def percent_text(value, digits=1):
    value = number(value)
    return NONE if value is None else f"{100 * value:.{digits}f}%"


def seconds_text(value):
    value = number(value)
    if value is None:
        return NONE
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def grid(head, rows, name):
    """A table; head: (title, class) of the columns, class "n" for numbers, "t" for code. It scrolls
    on its own where the screen is narrow."""
    def cell(tag, value, kind, more=""):
        return f'<{tag}{more}{f" class={kind}" if kind else ""}>{escaped(value)}</{tag}>'
    lines = [f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(name)}">'
             "<table><thead><tr>"]
    lines += [cell("th", title, "n" if kind == "n" else "", ' scope="col"') for title, kind in head]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append("<tr>" + "".join(cell("td", value, kind)
                                      for value, (_, kind) in zip(row, head)) + "</tr>")
    return "".join(lines) + "</tbody></table></div>"


def pairs(rows):
    """What is known, by name: a list of (name, value); empty values are left out."""
    return '<dl class="facts">' + "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>"
        for name, value in rows if value not in (None, "", NONE)) + "</dl>"


def note(text, kind=""):
    return f'<p class="note {kind}">{escaped(text)}</p>'


