"""Plots as plain SVG, readable on a light and on a dark page. No plotting library: two pictures need none."""

import math
import statistics
from html import escape

import settings
from bench.fit import Line

FOLDER = settings.ROOT / "docs"
WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 82, 44, 64, 58
INK, QUIET, GRID = "#172b4d", "#626f86", "#e3e6ea"
OURS, PEER = "#0c66e4", "#e56910"


class Picture:
    """A white card with a title, a plot area and whatever is drawn into it."""

    def __init__(self, title: str, subtitle: str, description: str):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'role="img" font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif">',
            f"<title>{escape(title)}</title><desc>{escape(description)}</desc>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        ]
        self.text(20, 28, title, size=17, weight=600)
        self.text(20, 48, subtitle, size=12.5, fill=QUIET)

    def text(
        self, x: float, y: float, text: str, size: float = 12, anchor: str = "start", fill: str = INK, weight: int = 400
    ) -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}" font-weight="{weight}">'
            f"{escape(text)}</text>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str = GRID, width: float = 1, dashes: str = "") -> None:
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" stroke-width="{width}"{dashed}/>'
        )

    def add(self, element: str) -> None:
        self.parts.append(element)

    def save(self, name: str) -> None:
        (FOLDER / name).write_text("\n".join([*self.parts, "</svg>"]) + "\n")


def short(number: float) -> str:
    """10000 as 10,000, 0.1 as 0.1."""
    return f"{number:,.0f}" if number >= 1 else f"{number:g}"


def cpu_over_services(points: list[tuple[float, float]], line: Line, beyond: tuple[int, ...]) -> None:
    """load-cpu.svg: CPU seconds per round over the number of services, both logarithmic, and the line beyond what was run."""
    measured_to = max(x for x, _ in points)
    low_x, high_x = min(x for x, _ in points), max(beyond)
    low_y, high_y = min(y for _, y in points), line.at(high_x)
    decades_x = range(math.floor(math.log10(low_x)), math.ceil(math.log10(high_x)) + 1)
    decades_y = range(math.floor(math.log10(low_y)), math.ceil(math.log10(high_y)) + 1)

    def place(value: float, decades: range, start: float, end: float) -> float:
        return start + (math.log10(value) - decades[0]) / (decades[-1] - decades[0]) * (end - start)

    def x_of(x: float) -> float:
        return place(x, decades_x, LEFT, WIDTH - RIGHT)

    def y_of(y: float) -> float:
        return place(y, decades_y, HEIGHT - BOTTOM, TOP + 6)

    fixed = f", {line.fixed:.2f} fixed" if line.fixed >= 0.005 else ""
    rule = f"{line.each * 1000:.2f} CPU seconds for each 1,000 services{fixed}, R² = {line.r2:.4f}"
    description = "CPU seconds per round over services, measured and fitted"
    picture = Picture("The cost of a round grows in a straight line", rule, description)
    for decade in decades_x:
        x = x_of(10**decade)
        picture.line(x, TOP + 6, x, HEIGHT - BOTTOM)
        picture.text(x, HEIGHT - BOTTOM + 19, short(10**decade), anchor="middle", fill=QUIET)
    for decade in decades_y:
        y = y_of(10**decade)
        picture.line(LEFT, y, WIDTH - RIGHT, y)
        picture.text(LEFT - 9, y + 4, short(10**decade), anchor="end", fill=QUIET)
    picture.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "services", anchor="middle", size=13)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    picture.add(
        f'<text transform="translate(24 {middle:.0f}) rotate(-90)" font-size="13" text-anchor="middle" fill="{INK}">'
        "CPU seconds per round</text>"
    )
    # A straight line with a fixed part is bent on logarithmic axes.
    steps = [low_x * (high_x / low_x) ** (step / 60) for step in range(61)]
    steps = [x for x in steps if line.at(x) >= 10 ** decades_y[0]]
    for part, dashes in ((lambda x: x <= measured_to, ""), (lambda x: x >= measured_to, "5 5")):
        chosen = sorted({*filter(part, steps), measured_to})
        path = " ".join(f"{x_of(x):.1f},{y_of(line.at(x)):.1f}" for x in chosen)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        picture.add(f'<polyline points="{path}" fill="none" stroke="{OURS}" stroke-width="2"{dashed}/>')
    for x, y in points:
        at = f'cx="{x_of(x):.1f}" cy="{y_of(y):.1f}"'
        picture.add(f'<circle {at} r="4.5" fill="{OURS}" fill-opacity="0.75" stroke="#ffffff" stroke-width="1.2"/>')
    for x in beyond:
        at_x, at_y = x_of(x), y_of(line.at(x))
        picture.add(f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="4.5" fill="#ffffff" stroke="{OURS}" stroke-width="2"/>')
        picture.text(at_x + 6, at_y + 24, f"{line.at(x):,.0f} s", anchor="middle")
    legend_y = TOP + 26
    picture.add(f'<rect x="{LEFT + 6}" y="{legend_y - 16}" width="236" height="44" fill="#ffffff"/>')
    picture.add(f'<circle cx="{LEFT + 18}" cy="{legend_y - 4}" r="4.5" fill="{OURS}" fill-opacity="0.75"/>')
    picture.text(LEFT + 30, legend_y, "measured, one point for each round")
    picture.add(f'<circle cx="{LEFT + 18}" cy="{legend_y + 17}" r="4.5" fill="#ffffff" stroke="{OURS}" stroke-width="2"/>')
    picture.text(LEFT + 30, legend_y + 21, "computed")
    picture.save("load-cpu.svg")


def cpu_beside_peers(groups: list[tuple[str, list[float], list[float]]]) -> None:
    """peers-cpu.svg: for each group (name, ours, the peer's) two bars with the median and the range of its rounds."""
    top = max(max(peer) for _, _, peer in groups)
    step = 10 ** math.floor(math.log10(top)) / 2
    high = math.ceil(top * 1.08 / step) * step
    left, bar, gap = 176, 34, 12

    def x_of(value: float) -> float:
        return left + value / high * (WIDTH - RIGHT - 90 - left)

    picture = Picture(
        "CPU seconds for 1,000 checks, on one core",
        "Median of the rounds; the thin line is their range. Shorter is better.",
        "CPU seconds per 1,000 checks of check-services and of prometheus-blackbox-exporter",
    )
    value = 0.0
    while value <= high + step / 2:
        picture.line(x_of(value), TOP + 34, x_of(value), HEIGHT - BOTTOM + 6)
        picture.text(x_of(value), HEIGHT - BOTTOM + 24, f"{value:g}", anchor="middle", fill=QUIET)
        value += step
    picture.text((left + x_of(high)) / 2, HEIGHT - 12, "CPU seconds per 1,000 checks", anchor="middle", size=13)
    for number, (name, color) in enumerate((("check-services, the whole path", OURS), ("prometheus-blackbox-exporter", PEER))):
        x = left + number * 250
        picture.add(f'<rect x="{x}" y="{TOP + 6}" width="13" height="13" rx="3" fill="{color}"/>')
        picture.text(x + 20, TOP + 17, name)
    height = (HEIGHT - BOTTOM - TOP - 34) / len(groups)
    for number, (name, ours, peer) in enumerate(groups):
        y = TOP + 34 + number * height + (height - 2 * bar - gap) / 2
        picture.text(left - 16, y + bar + gap / 2 + 5, name, anchor="end", size=15, weight=600)
        for values, color in ((ours, OURS), (peer, PEER)):
            ascending = sorted(values)
            median = statistics.median(values)
            picture.add(
                f'<path d="M{left} {y:.1f} H{x_of(median) - 4:.1f} q4 0 4 4 v{bar - 8} q0 4 -4 4 H{left} Z" fill="{color}"/>'
            )
            middle = y + bar / 2
            picture.line(x_of(ascending[0]), middle, x_of(ascending[-1]), middle, stroke=INK, width=1.5)
            picture.text(max(x_of(median), x_of(ascending[-1])) + 9, middle + 5, f"{median:.2f}", size=14, weight=600)
            y += bar + gap
    picture.line(left, TOP + 34, left, HEIGHT - BOTTOM + 6, stroke=QUIET)
    picture.save("peers-cpu.svg")
