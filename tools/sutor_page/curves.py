"""Line charts as inline SVG. Lines differ by dash and mark as well as by colour; the values stand
in the page's data, for the pointer and the arrow keys."""

import math

from .text import escaped

WIDTH, HEIGHT = 340, 210
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 10, 26
MOST_POINTS = 600
DASHES = ("", "6 3", "2 3", "8 3 2 3")


def thinned(steps, values):
    """At most MOST_POINTS of the points: of every bucket the least and the most."""
    if len(steps) <= MOST_POINTS:
        return steps, values
    size = math.ceil(2 * len(steps) / MOST_POINTS)
    kept = {0, len(steps) - 1}
    for begin in range(0, len(steps), size):
        bucket = range(begin, min(begin + size, len(steps)))
        known = [at for at in bucket if values[at] is not None]
        if len(known) < len(bucket):
            kept.update(at for at in bucket if values[at] is None)
        if known:
            kept.add(min(known, key=values.__getitem__))
            kept.add(max(known, key=values.__getitem__))
    order = sorted(kept)
    return [steps[at] for at in order], [values[at] for at in order]


def ticks(low, high, count):
    """Round numbers from low to high."""
    if high <= low:
        return [low]
    raw = (high - low) / (1.5 * count)
    size = 10 ** math.floor(math.log10(raw))
    step = next((m * size for m in (1, 2, 5, 10) if m * size >= raw), 10 * size)
    first = math.ceil(low / step - 1e-9)
    return [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_texts(values):
    """As short as may be while they differ."""
    for digits in range(4, 11):
        texts = [tick_text(value, digits) for value in values]
        if len(set(texts)) == len(texts):
            break
    return texts


def tick_text(value, digits=4):
    if value == 0:
        return "0"
    value = float(f"{value:.10g}")  # steps of 0.1 add up to more digits
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    if size < 1e-3:
        return f"{value:.{digits - 4}e}".replace("e-0", "e-")
    return f"{value:.{digits}g}"


def range_of(numbers):
    low, high = min(numbers), max(numbers)
    if low == high:
        pad = abs(low) * 0.05 or 1
        return low - pad, high + pad
    pad = (high - low) * 0.06
    return (max(0, low - pad) if low >= 0 else low - pad), high + pad


class Charts:
    """Draws charts and collects their values for the page's script."""

    def __init__(self):
        self.data = {}

    def chart(self, name, title, unit, lines):
        """lines: (name, steps, values); a chart without any value says so."""
        lines = [(label, *thinned(steps, values)) for label, steps, values in lines if steps]
        known = [value for _, _, values in lines for value in values if value is not None]
        head = f"<figcaption>{escaped(title)}{self._legend(lines)}</figcaption>"
        if not known:
            return f'<figure class="chart">{head}<p class="dim">no finite value</p></figure>'
        steps = [step for _, steps, _ in lines for step in steps]
        x_low, x_high = min(steps), max(steps)
        if x_low == x_high:
            x_low, x_high = x_low - 1, x_high + 1
        y_low, y_high = range_of(known)
        self.data[name] = {
            "unit": unit, "x": [x_low, x_high], "y": [y_low, y_high],
            "lines": [{"name": label, "steps": at, "values": values}
                      for label, at, values in lines]}

        def x_of(step):
            return LEFT + (step - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

        def y_of(value):
            return HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" tabindex="0" role="img" '
                 f'data-chart="{escaped(name)}" '
                 f'aria-label="{escaped(self._spoken(title, lines))}">']
        parts += self._axes(x_low, x_high, y_low, y_high, x_of, y_of)
        for number, (_, at, values) in enumerate(lines):
            parts.append(self._line(number, at, values, x_of, y_of))
        parts.append(f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></svg>'
                     '<output class="readout" aria-live="polite">&nbsp;</output>')
        return f'<figure class="chart">{head}{"".join(parts)}</figure>'

    @staticmethod
    def _axes(x_low, x_high, y_low, y_high, x_of, y_of):
        levels = ticks(y_low, y_high, 4)
        for value, text in zip(levels, tick_texts(levels)):
            y = y_of(value)
            yield (f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
                   f'y2="{y:.1f}"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
                   f"{text}</text>")
        for value in ticks(x_low, x_high, 4):
            if value != int(value):
                continue
            yield (f'<text x="{x_of(value):.1f}" y="{HEIGHT - 8}" text-anchor="middle">'
                   f"{tick_text(value)}</text>")

    @staticmethod
    def _line(number, steps, values, x_of, y_of):
        """A gap where a value is not finite; marks where the points are few."""
        path, marks, pen = [], [], "M"
        for step, value in zip(steps, values):
            if value is None:
                pen = "M"
                continue
            x, y = x_of(step), y_of(value)
            path.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
            marks.append(Charts._mark(number, x, y))
        drawn = "".join(marks) if len(marks) <= 30 else ""
        dash = DASHES[number % len(DASHES)]
        return (f'<g class="line c{number % 4}"><path d="{"".join(path)}"'
                f'{f" stroke-dasharray={chr(34)}{dash}{chr(34)}" if dash else ""}/>{drawn}</g>')

    @staticmethod
    def _mark(number, x, y):
        shape = number % 3
        if shape == 0:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'
        if shape == 1:
            return f'<rect x="{x - 2.6:.1f}" y="{y - 2.6:.1f}" width="5.2" height="5.2"/>'
        return (f'<polygon points="{x:.1f},{y - 3.4:.1f} {x - 3.2:.1f},{y + 2.6:.1f} '
                f'{x + 3.2:.1f},{y + 2.6:.1f}"/>')

    @staticmethod
    def _legend(lines):
        if len(lines) < 2:
            return ""
        keys = []
        for number, (name, _, _) in enumerate(lines):
            dash = DASHES[number % len(DASHES)]
            keys.append(
                f'<span class="key"><svg width="30" height="10" aria-hidden="true"><g class="line '
                f'c{number % 4}"><path d="M1 5H29"'
                f'{f" stroke-dasharray={chr(34)}{dash}{chr(34)}" if dash else ""}/>'
                f"{Charts._mark(number, 15, 5)}</g></svg>{escaped(name)}</span>")
        return f'<span class="keys">{"".join(keys)}</span>'

    @staticmethod
    def _spoken(title, lines):
        """What a screen reader says of the chart."""
        said = []
        for name, steps, values in lines:
            known = [(step, value) for step, value in zip(steps, values) if value is not None]
            if known:
                said.append(f"{name}: {known[0][1]:.4g} at step {known[0][0]}, {known[-1][1]:.4g} "
                            f"at step {known[-1][0]}")
        return f"{title}. {'; '.join(said)}. Arrow keys read the values."
