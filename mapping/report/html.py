# SPDX-License-Identifier: Apache-2.0
"""What the pages that npuloop writes share: style, tables, figures; HTML that needs no other file."""

from __future__ import annotations

import base64
import datetime as dt
import platform
from collections.abc import Sequence
from html import escape
from importlib.metadata import version

CSS = """
body { margin: 0 auto; max-width: 1120px; padding: 2.5rem 1.5rem 4rem; background: #fff; color: #1f2933;
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 3.2rem 0 .3rem; padding-top: 1.2rem; border-top: 1px solid #d9dee4; }
h3 { font-size: .95rem; margin: 1.6rem 0 .4rem; }
p, figcaption { max-width: 74ch; }
.lead, .note { color: #52606d; }
.note { font-size: .85rem; }
nav a { margin-right: 1.4rem; }
a { color: #2b6cb0; text-decoration: none; }
a:hover { text-decoration: underline; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .28rem .8rem .28rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid #e9edf1; }
thead th { color: #52606d; font-weight: 600; border-bottom: 1px solid #9aa5b1; }
tbody th { font-weight: 400; }
.n { text-align: right; white-space: nowrap; }
.over { color: #c53030; font-weight: 600; }
.wide { overflow-x: auto; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 0 2rem; }
figure { margin: 1rem 0 .6rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; color: #52606d; margin-top: .3rem; }
figcaption b { color: #1f2933; }
code { font: .92em ui-monospace, "DejaVu Sans Mono", monospace; }
"""


def document(title: str, heading: str, lead: str, parts: Sequence[str]) -> str:
    """Return a page.

    Args:
        title, heading: plain text.
        lead, parts: HTML; what stands below the heading, and what follows.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<h1>{escape(heading)}</h1>\n"
        f'<p class="lead">{lead}</p>\n{"".join(parts)}</body>\n</html>\n'
    )


def figure(name: str, alternative: str, drawing: bytes, caption: str) -> str:
    """Return a figure that carries its drawing.

    Args:
        name: its class, a plain word.
        alternative: what is said where it cannot be seen; plain text.
        drawing: SVG.
        caption: HTML.
    """
    data = base64.b64encode(drawing).decode()
    return (
        f'<figure class="{name}"><img alt="{escape(alternative)}" '
        f'src="data:image/svg+xml;base64,{data}"><figcaption>{caption}</figcaption></figure>\n'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """Return a table; cells are HTML, the first `numbers` columns from the second on are numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        first = f'<th scope="row">{row[0]}</th>' if tag == "td" else f"<th>{row[0]}</th>"
        number, text = f'<{tag} class="n">', f"<{tag}>"
        rest = [f"{number if i < numbers else text}{cell}</{tag}>" for i, cell in enumerate(row[1:])]
        return f"<tr>{first}{''.join(rest)}</tr>\n"

    body = "".join(cells("td", row) for row in rows)
    return (
        f'<div class="wide"><table>\n<thead>{cells("th", head)}</thead>\n<tbody>\n{body}</tbody>\n'
        "</table></div>\n"
    )


def colophon() -> str:
    """Return when and with what a page is made, without a full stop."""
    day = dt.date.today().isoformat()  # noqa: DTZ011
    return f"Made on {day} with Python {platform.python_version()}, matplotlib {version('matplotlib')}"
