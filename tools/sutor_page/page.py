"""The whole page: one HTML file that asks nothing of a network."""

import json

from . import sections
from .curves import Charts
from .experts import live_shares
from .run import table
from .script import SCRIPT
from .style import STYLE
from .text import escaped

# Forbids what the page does not do anyway: to load anything from anywhere.
POLICY = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
          "img-src data:; base-uri 'none'; form-action 'none'")


def embedded(value):
    """JSON for a script element, which no text in it can end."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page(run):
    charts = Charts()
    parts = [
        ("", "", sections.summary(run)),
        ("ran", "What ran", sections.what_ran(run)),
        ("evaluation", "Before and after", sections.before_and_after(run)),
        ("curves", "Curves", sections.curves(run, charts)),
        ("experts", "Experts", sections.experts(run, charts)),
        ("balance", "Balance of the ranks", sections.balance(run)),
        ("checks", "Checks", sections.checks(run)),
        ("plan", "Plan beside measurement", sections.plan(run)),
        ("samples", "Samples before and after", sections.samples(run)),
        ("files", "Checkpoints and files", sections.files(run)),
    ]
    parts = [(name, title, body) for name, title, body in parts if body]
    links = "".join(f'<a href="#{name}">{escaped(title)}</a>' for name, title, _ in parts if name)
    body = [f"<nav aria-label=\"Sections\">{links}</nav>"]
    for name, title, text in parts:
        body.append(text if not name else
                    f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">'
                    f"{escaped(title)}</h2>{text}</section>")
    body[0], body[1] = body[1], body[0]  # the summary comes before the links
    data = {"receipt": run.receipt, "selection": run.facts.get("selection"),
            "heat": {"scores": table(run.facts.get("scores")).get("layers"),
                     "live": live_shares(run.live_layers()[0])}, "charts": charts.data}
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<link rel="icon" href="data:,">'
            f"<title>{escaped(run.name)}: sutor</title><style>{STYLE}</style></head><body>\n"
            "<main>" + "\n".join(body) + "</main>\n"
            f'<script type="application/json" id="data">{embedded(data)}</script>\n'
            f"<script>{SCRIPT}</script></body></html>\n")
