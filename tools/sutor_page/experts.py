"""The experts of a run: the heat map of the scores with the selection, and a line a layer."""

import math

from .run import number, table
from .text import count_text, escaped, grid, note, percent_text, short_text

LEVELS = 12  # shades; the darkest leaves the outline of a chosen expert visible
DARKEST = 0.6
LEFT, TOP, ROW = 34, 20, 15


def layers_of(layers):
    """[(layer, shares)] by rising layer."""
    layers = table(layers)
    return [(layer, [number(share) or 0 for share in layers[layer]])
            for layer in sorted(layers, key=int) if isinstance(layers[layer], list)]


def live_shares(live):
    """{layer: shares of its selections} of a step's counts."""
    shares = {}
    for layer, of in live.items():
        counts = of.get("counts")
        if isinstance(counts, list) and sum(number(count) or 0 for count in counts) > 0:
            known = [number(count) or 0 for count in counts]
            shares[layer] = [count / sum(known) for count in known]
    return shares


def heat_map(name, layers, selection, when):
    """Layers x experts. One path a shade, so that thousands of experts stay a small page; the
    values are read from the page's data, `name` of its heat maps. when: "when the sample was
    scored"."""
    rows = layers_of(layers)
    columns = max((len(shares) for _, shares in rows), default=0)
    highest = max((share for _, shares in rows for share in shares), default=0)
    if not columns or highest <= 0:
        return note("No expert was selected: there is nothing to show.")
    cell = max(9, min(18, 900 // columns))
    paths = [[] for _ in range(LEVELS + 1)]
    outlines = []
    for row, (layer, shares) in enumerate(rows):
        y = TOP + row * ROW
        for expert, share in enumerate(shares):
            level = math.ceil(LEVELS * math.sqrt(share / highest)) if share > 0 else 0
            paths[level].append(f"M{LEFT + expert * cell} {y}h{cell}v{ROW}h-{cell}z")
        for expert in table(selection).get(layer, []):
            outlines.append(f"M{LEFT + expert * cell + 1} {y + 1}h{cell - 2}v{ROW - 2}"
                            f"h-{cell - 2}z")
    width, height = LEFT + columns * cell + 2, TOP + len(rows) * ROW + 2
    parts = [
        f'<figure><div class="scroll"><svg class="heat" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" tabindex="0" role="img" data-heat="{name}" '
        f'data-cell="{cell}" '
        f'data-left="{LEFT}" data-top="{TOP}" data-row="{ROW}" aria-label="Shares of {columns} '
        f'experts in {len(rows)} layers. Arrow keys read the values.">']
    for level, path in enumerate(paths):
        if path and level:
            parts.append(f'<path class="shade" fill-opacity="{DARKEST * level / LEVELS:.3f}" '
                         f'd="{"".join(path)}"/>')
    parts.append(f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{columns * cell}" '
                 f'height="{len(rows) * ROW}"/><path class="chosen" d="{"".join(outlines)}"/>')
    every = 1 if len(rows) <= 40 else 2
    parts += [f'<text x="{LEFT - 5}" y="{TOP + row * ROW + 11}" text-anchor="end">{escaped(layer)}'
              "</text>" for row, (layer, _) in enumerate(rows) if row % every == 0]
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64) if s * cell >= 22 or s == 64)
    parts += [f'<text x="{LEFT + e * cell + cell / 2:g}" y="{TOP - 6}" text-anchor="middle">{e}'
              "</text>" for e in range(0, columns, step)]
    parts.append('<rect class="cursor" width="0" height="0"/></svg></div>')
    parts.append(
        '<output class="readout" aria-live="polite">Point at an expert, or focus the picture and '
        "use the arrow keys.</output>"
        f'<p class="dim">Rows are layers, columns experts. The stronger the shade, the larger the '
        f"share of the layer's selections {when}, up to {percent_text(highest, 2)}; an even share "
        f"is {percent_text(1 / columns, 2)}. Outlined: chosen to train.</p></figure>")
    return "".join(parts)


def layer_rows(layers, selection, live):
    """A row a layer: what was chosen, and how much of the work it covers."""
    shares_of = dict(layers_of(layers))
    chosen = table(selection)
    for layer in sorted(set(shares_of) | set(chosen), key=int):
        shares, ids = shares_of.get(layer, []), chosen.get(layer, [])
        covered = sum(shares[e] for e in ids if e < len(shares)) if shares else None
        spread = max(shares) * len(shares) if shares else None
        dead = sum(share == 0 for share in shares) if shares else None
        now = table(live.get(layer))
        idle = now.get("dead")
        idle = len(idle) if isinstance(idle, list) else idle
        yield (layer, count_text(len(ids)), percent_text(covered), short_text(spread),
               count_text(dead), percent_text(now.get("share")),
               percent_text(now.get("share_at_scoring")),
               short_text(now.get("load_max_over_mean")), count_text(idle),
               " ".join(f"{e}" for e in ids))


HEAD = [("layer", "n"), ("chosen", "n"), ("share covered", "n"), ("max / mean", "n"),
        ("never chosen", "n"), ("live share", "n"), ("at scoring", "n"),
        ("live max / mean", "n"), ("live dead", "n"),
        ("experts", "t")]


def layer_table(layers, selection, live):
    rows = list(layer_rows(layers, selection, live))
    keep = [at for at in range(len(HEAD)) if any(row[at] not in ("", "–") for row in rows)]
    return grid([HEAD[at] for at in keep], [[row[at] for at in keep] for row in rows],
                "experts by layer")
