"""Draws the panels of deploy/grafana/unstale.json in their places, with what a Prometheus has to say of the last minutes.

It is not Grafana: the queries, units and places are the dashboard's, the drawing is matplotlib's.

usage: dashboard.py PROMETHEUS_URL MINUTES DASHBOARD.json PICTURE.png
"""

import datetime
import io
import json
import math
import re
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("agg")
import matplotlib.dates
import matplotlib.pyplot as plt
import matplotlib.ticker
from matplotlib.patches import FancyBboxPatch
from PIL import Image

STEP = 5
INK, FAINT, PAPER, CARD, EDGE = "#d8d9da", "#8e8e9a", "#111217", "#181b1f", "#2c3235"
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d", "#ffb357", "#ca95e5"]
NAMED = {"green": "#73bf69", "yellow": "#f2cc0c", "blue": "#5794f2", "orange": "#ff9830", "red": "#f2495c"}
# Inches: a page, one unit of the dashboard's grid, and what a panel has around its drawing.
WIDE, UNIT, GAP = 16, 0.3, 0.05
TITLE, LEGEND, LEFT = 0.3, 0.48, 0.62


def ask(url, path, **parameters):
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
        return json.load(answer)["data"]["result"]


def sent(expr):
    return expr.replace("$job", ".*").replace("$__rate_interval", "1m")


def named(legend, labels):
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), legend or "")


def shown(value, unit):
    if value is None or math.isnan(value):
        return "no data"
    if unit == "percentunit":
        return f"{value * 100:.4g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.3g}" + ("/s" if unit == "ops" else "")


def coloured(value, defaults):
    colour = INK
    for step in defaults.get("thresholds", {}).get("steps", []):
        if value is not None and (step["value"] is None or value >= step["value"]):
            colour = NAMED.get(step["color"], INK)
    return colour


def stat(axes, url, panel, defaults, now):
    series = ask(url, "query", query=sent(panel["targets"][0]["expr"]), time=now)
    value = float(series[0]["value"][1]) if series else None
    axes.axis("off")
    axes.text(0.5, 0.55, shown(value, defaults.get("unit")), transform=axes.transAxes, ha="center", va="center", fontsize=24, color=coloured(value, defaults))


def fetched(url, panel, span):
    """The series of a panel: name, times, values; those without a number are left out."""
    for target in panel["targets"]:
        for series in ask(url, "query_range", query=sent(target["expr"]), step=STEP, **span):
            points = [(at, float(value)) for at, value in series["values"]]
            if not all(math.isnan(value) for _, value in points):
                yield named(target.get("legendFormat"), series["metric"]), *zip(*points)


def clock(at):
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc)


def with_gaps(times, values):
    """Where a series has no sample no line is drawn."""
    dense = []
    for at, value in zip(times, values):
        if dense and at - dense[-1][0] > 2 * STEP:
            dense.append((dense[-1][0] + STEP, math.nan))
        dense.append((at, value))
    return zip(*dense)


def lines(axes, url, panel, defaults, span):
    # The highest first, so that it doesn't hide those of little.
    series = sorted(fetched(url, panel, span), key=lambda one: -max(value for value in one[2] if not math.isnan(value)))
    for number, (name, times, values) in enumerate(series):
        times, values = with_gaps(times, values)
        times, colour = [clock(at) for at in times], COLOURS[number % len(COLOURS)]
        axes.plot(times, values, color=colour, linewidth=1.1, label=name, zorder=3)
        axes.fill_between(times, values, color=colour, alpha=0.07, linewidth=0)
    unit = defaults.get("unit")
    axes.set_ylim(bottom=0, top=defaults["max"] * 1.04 if "max" in defaults else None)
    if axes.get_ylim()[1] < 0.1 and unit == "short":
        axes.set_ylim(top=1)
    if not series:
        axes.set_ylim(top=1)
        empty = "none, which is well" if "> 0" in panel["targets"][0]["expr"] else "no data"
        axes.text(0.5, 0.5, empty, transform=axes.transAxes, ha="center", color=FAINT, fontsize=8)
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: shown(value, unit)))
    if unit == "bytes":
        axes.yaxis.set_major_locator(matplotlib.ticker.MultipleLocator(10 * 2**20))
    else:
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    legend(axes, [name for name, _, _ in series])


def legend(axes, names):
    """One line below the panel, as much of it as there is room."""
    room, told = axes.get_window_extent().width / 4.6 - 9, 0
    for name in names:
        room -= len(name) + 6
        if told and room < 0:
            break
        told += 1
    if told:
        handles, labels = axes.get_legend_handles_labels()
        rest = len(labels) - told
        labels = labels[:told] if not rest else [*labels[: told - 1], f"{labels[told - 1]}, and {rest} more"]
        place = (-0.01, -22 / axes.get_window_extent().height)
        axes.legend(handles[:told], labels, loc="upper left", bbox_to_anchor=place, ncol=told, fontsize=6.8, labelcolor=FAINT, frameon=False,
                    handlelength=1, handletextpad=0.5, columnspacing=1.2, borderpad=0)


def states(axes, url, panel, defaults, span):
    meant = defaults["mappings"][0]["options"]
    series = sorted(fetched(url, panel, span), reverse=True)
    for row, (_, times, values) in enumerate(series):
        for at, value in zip(times, values):
            colour = meant[str(int(value))]["color"]
            axes.barh(row, STEP / 86400, left=matplotlib.dates.date2num(clock(at)), height=0.75, color=NAMED.get(colour, colour), alpha=0.75, linewidth=0)
    axes.set_yticks(range(len(series)), [name for name, _, _ in series])
    axes.set_ylim(-0.6, len(series) - 0.4)


def draw(figure, height, url, panel, span):
    grid, defaults = panel["gridPos"], panel.get("fieldConfig", {}).get("defaults", {})
    tall = height * UNIT
    left, top, wide, high = grid["x"] / 24 * WIDE, tall - grid["y"] * UNIT, grid["w"] / 24 * WIDE, grid["h"] * UNIT
    if panel["type"] == "row":
        figure.text((left + 0.1) / WIDE, (top - high / 2) / tall, panel["title"], color=INK, fontsize=11, va="center", weight="bold")
        return
    card = FancyBboxPatch(((left + GAP) / WIDE, (top - high + GAP) / tall), (wide - 2 * GAP) / WIDE, (high - 2 * GAP) / tall, boxstyle="square,pad=0",
                          facecolor=CARD, edgecolor=EDGE, linewidth=0.6, transform=figure.transFigure, zorder=-1)
    figure.add_artist(card)
    figure.text((left + 0.15) / WIDE, (top - 0.21) / tall, panel["title"], color=INK, fontsize=8.5, va="center")
    margin, below = {"stat": (0.1, 0.1), "state-timeline": (1.15, LEGEND - 0.1)}.get(panel["type"], (LEFT, LEGEND))
    place = [(left + margin) / WIDE, (top - high + below) / tall, (wide - margin - 0.18) / WIDE, (high - TITLE - below - 0.05) / tall]
    axes = figure.add_axes(place, facecolor=CARD)
    axes.tick_params(colors=FAINT, labelsize=6.8, length=0)
    if panel["type"] == "stat":
        stat(axes, url, panel, defaults, span["end"])
        return
    axes.set_xlim(clock(span["start"]), clock(span["end"]))
    axes.xaxis.set_major_locator(matplotlib.dates.MinuteLocator(byminute=range(0, 60, 2)))
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes.grid(color=EDGE, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    {"timeseries": lines, "state-timeline": states}[panel["type"]](axes, url, panel, defaults, span)


def main(url, minutes, dashboard, picture):
    with open(dashboard) as file:
        panels = json.load(file)["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(WIDE, height * UNIT), facecolor=PAPER, dpi=90)
    now = time.time()
    for panel in panels:
        draw(figure, height, url, panel, {"start": now - minutes * 60, "end": now})
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=90, facecolor=PAPER)
    # Of few colours: a third of the size, and nobody sees it.
    Image.open(drawn).convert("RGB").quantize(128).save(picture, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4])
