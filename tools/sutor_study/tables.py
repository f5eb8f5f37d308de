"""Tables in Markdown that read well as plain text too."""

import statistics


def table(header, rows):
    """The first column left, the others right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for at, row in enumerate(cells):
        parts = [row[0].ljust(widths[0])]
        parts += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("| " + " | ".join(parts) + " |")
        if at == 0:
            rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
            lines.append("| " + " | ".join(rule) + " |")
    return "\n".join(lines)


def spread(values, form="{:+.3f}"):
    """Mean and standard deviation over seeds: "-0.125 ± 0.004"."""
    text = form.format(statistics.fmean(values))
    return f"{text} ± {statistics.stdev(values):.3f}" if len(values) > 1 else text


def count(parameters):
    if parameters >= 1e6:
        return f"{parameters / 1e6:.2f} M"
    return f"{parameters / 1e3:.0f} k"
