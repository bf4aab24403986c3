"""Draws the panels of deploy/grafana/unstale.json in their places, with what a Prometheus has to say of the last minutes.

It is not Grafana: the queries, units and places are the dashboard's, the drawing is matplotlib's.

usage: dashboard.py PROMETHEUS_URL MINUTES DASHBOARD.json PICTURE.png
"""

import datetime
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

STEP = 15
INK, FAINT, PAPER, CARD = "#d8d9da", "#8e8e9a", "#111217", "#181b1f"
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d", "#ffb357", "#ca95e5"]


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
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.3g}" + ("/s" if unit == "ops" else "")


def stat(axes, url, panel, unit, now):
    series = ask(url, "query", query=sent(panel["targets"][0]["expr"]), time=now)
    value = float(series[0]["value"][1]) if series else None
    colour = INK
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", []):
        if value is not None and (step["value"] is None or value >= step["value"]):
            colour = {"green": COLOURS[0], "red": COLOURS[4], "yellow": COLOURS[1], "orange": COLOURS[3]}.get(step["color"], INK)
    axes.text(0.5, 0.42, shown(value, unit), transform=axes.transAxes, ha="center", va="center", fontsize=22, color=colour)
    axes.set_xticks([])
    axes.set_yticks([])


def lines(axes, url, panel, unit, now, minutes):
    span = {"start": now - minutes * 60, "end": now, "step": STEP}
    drawn = []
    for target in panel["targets"]:
        for series in ask(url, "query_range", query=sent(target["expr"]), **span):
            points = [(datetime.datetime.fromtimestamp(at, datetime.timezone.utc), float(value)) for at, value in series["values"]]
            if all(math.isnan(value) for _, value in points):
                continue
            colour = COLOURS[len(drawn) % len(COLOURS)]
            times, values = zip(*points)
            axes.plot(times, values, color=colour, linewidth=1)
            axes.fill_between(times, values, color=colour, alpha=0.08, linewidth=0)
            drawn.append((max(values), named(target.get("legendFormat"), series["metric"]), colour))
    axes.set_ylim(bottom=0)
    axes.set_xlim(*(datetime.datetime.fromtimestamp(at, datetime.timezone.utc) for at in (span["start"], span["end"])))
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: shown(value, unit)))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    axes.grid(color="#2c3235", linewidth=0.5)
    if not drawn:
        axes.text(0.5, 0.5, "nothing, which is well" if "rror" in panel["title"] else "no data", transform=axes.transAxes, ha="center", color=FAINT, fontsize=8)
    for place, (_, name, colour) in enumerate(sorted(drawn, reverse=True)[:5]):
        axes.text(0.01, 0.97 - place * 0.11, f"\u2014 {name}", transform=axes.transAxes, va="top", fontsize=6.5, color=colour)


def main(url, minutes, dashboard, picture):
    with open(dashboard) as file:
        panels = json.load(file)["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(16, height * 0.34), facecolor=PAPER)
    now = time.time()
    for panel in panels:
        grid, unit = panel["gridPos"], panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
        left, top = grid["x"] / 24, 1 - grid["y"] / height
        if panel["type"] == "row":
            figure.text(left + 0.005, top - 0.5 / height, panel["title"], color=INK, fontsize=11, va="center", weight="bold")
            continue
        wide = 0.006 if panel["type"] == "stat" else 0.034
        place = [left + wide, top - (grid["h"] - 0.95) / height, grid["w"] / 24 - wide - 0.006, (grid["h"] - 1.9) / height]
        axes = figure.add_axes(place, facecolor=CARD)
        axes.set_title(panel["title"], loc="left", fontsize=8.5, color=INK, pad=4)
        axes.tick_params(colors=FAINT, labelsize=6.5, length=0)
        for side in axes.spines.values():
            side.set_color("#2c3235")
        if panel["type"] == "stat":
            stat(axes, url, panel, unit, now)
        else:
            lines(axes, url, panel, unit, now, minutes)
    figure.savefig(picture, dpi=85, facecolor=PAPER)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4])
