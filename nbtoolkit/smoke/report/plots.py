"""Plots of a smoke report as inline SVG: adapter strength per layer, logit shift per prompt, tokens/s.

Each plot has a text alternative. Text and axes have the colour of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

from nbtoolkit.smoke.check import Check

_BAR = "#3b82c4"
"""Has enough contrast on white and on near-black."""
_WIDTH = 640
_ROW = 22
_LABEL = 300
_HEIGHT = 120
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


class _Bar(NamedTuple):
    label: str
    value: float
    text: str


def plots(checks: Sequence[Check]) -> Iterator[str]:
    """Yield the plots for which the checks have evidence."""
    for one in checks:
        ratios = one.evidence.get("norm_ratios")
        if isinstance(ratios, dict) and (layers := strength_per_layer(ratios)):
            yield columns("Adapter strength per layer, largest ‖BA‖·s/‖W‖", layers)
        shifts = one.evidence.get("kl_per_prompt")
        if isinstance(shifts, dict) and shifts:
            noise = one.evidence.get("noise_nats")
            about = f"; the noise is {noise:.2g}" if isinstance(noise, float) else ""
            shown = sorted(_bars(shifts), key=lambda bar: -bar.value)
            yield bars(f"Logit shift per prompt, mean KL(base‖adapter) in nats{about}", shown)
        speeds = one.evidence.get("tokens_per_second_of")
        if isinstance(speeds, dict) and speeds:
            yield bars("Speed of one answer, tokens/s", _bars(speeds))


def strength_per_layer(ratios: dict[str, Any]) -> list[_Bar]:
    """Return the largest ratio of each layer with its module; modules outside of the layers are left out."""
    strongest: dict[int, _Bar] = {}
    for path, ratio in ratios.items():
        if not (found := _LAYER.search(f".{path}")):
            continue
        layer, value = int(found[1]), _finite(ratio)
        if layer not in strongest or value > strongest[layer].value:
            strongest[layer] = _Bar(str(layer), value, f"layer {layer}: {value:.3g} in {path}")
    return [strongest[layer] for layer in sorted(strongest)]


def bars(title: str, values: Sequence[_Bar]) -> str:
    """Return a plot with a horizontal bar per value, its label left and its number right."""
    scale = (_WIDTH - _LABEL - 70) / (max(one.value for one in values) or 1)
    rows = ""
    for index, one in enumerate(values):
        y, width = index * _ROW, max(1.0, one.value * scale)
        rows += (
            f"<g><title>{escape(one.label)}: {escape(one.text)}</title>"
            f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(_short(one.label))}</text>'
            f'<rect x="{_LABEL}" y="{y + 4}" width="{width:.1f}" height="{_ROW - 8}" fill="{_BAR}"/>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{y + 15}">{escape(one.text)}</text></g>'
        )
    return _figure(title, [f"{one.label}: {one.text}" for one in values], len(values) * _ROW, rows)


def columns(title: str, values: Sequence[_Bar]) -> str:
    """Return a plot with a column per value over a numbered axis."""
    top = max(one.value for one in values) or 1
    left, bottom, space = 52, 20, 8
    step = min(40.0, (_WIDTH - left) / len(values))
    every = -(-len(values) // 16)
    axis = left + step * len(values)
    drawn = (
        f'<text x="{left - 6}" y="{space + 5}" text-anchor="end">{top:.2g}</text>'
        f'<text x="{left - 6}" y="{space + _HEIGHT + 4}" text-anchor="end">0</text>'
        f'<path d="M{left} {space}H{axis:.1f}M{left} {space + _HEIGHT}H{axis:.1f}" '
        'stroke="currentColor" stroke-opacity=".35" fill="none"/>'
    )
    for index, one in enumerate(values):
        height = one.value / top * _HEIGHT
        x = left + index * step
        drawn += (
            f"<g><title>{escape(one.text)}</title>"
            f'<rect x="{x + step * 0.12:.1f}" y="{space + _HEIGHT - height:.1f}" width="{step * 0.76:.1f}" '
            f'height="{height:.1f}" fill="{_BAR}"/></g>'
        )
        if index % every == 0:
            drawn += (
                f'<text x="{x + step / 2:.1f}" y="{space + _HEIGHT + 15}" text-anchor="middle">'
                f"{escape(one.label)}</text>"
            )
    return _figure(title, [one.text for one in values], space + _HEIGHT + bottom, drawn)


def _figure(title: str, values: Sequence[str], height: int, drawn: str) -> str:
    """Return a titled SVG whose text alternative lists the values."""
    alternative = escape(f"{title}. {'; '.join(values)}", quote=True)
    return (
        f'<div style="font-weight:600;margin-bottom:4px">{escape(title)}</div>'
        f'<svg role="img" aria-label="{alternative}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" style="max-width:100%;height:auto" font-size="12" fill="currentColor" '
        f'font-family="var(--jp-ui-font-family,sans-serif)">{drawn}</svg>'
    )


def _bars(values: dict[str, Any]) -> list[_Bar]:
    return [_Bar(name, number := _finite(value), f"{number:.3g}") for name, value in values.items()]


def _finite(value: Any) -> float:
    """Return a value that can be drawn; NaN and infinities are texts in the evidence."""
    return max(0.0, float(value)) if isinstance(value, int | float) else 0.0


def _short(label: str) -> str:
    text = " ".join(label.split())
    return text if len(text) <= 40 else f"{text[:39]}…"
