"""Reads a page as a browser would: what is open, what is shown, and whether it asks for anything from outside."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from simserve.report import charts

VOID = ("meta", "img", "link", "br", "wbr")


class Page(HTMLParser):
    """`tags` counted, `addresses` of everything that is loaded, `tables` as rows of cells' texts, `text` of the whole."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.addresses, self.open = html, Counter(), [], []
        self.tables, self.text = [], ""
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.addresses += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, *heading: str):
        """The rows below the heading of the table that has these columns, each as a mapping by heading."""
        for table in self.tables:
            if set(heading) <= set(table[0]):
                return [dict(zip(table[0], row, strict=True)) for row in table[1:]]
        raise AssertionError(f"no table with {heading}; there are {[table[0] for table in self.tables]}")

    def needs_nothing(self) -> bool:
        """Nothing is loaded from anywhere: pictures are inside, no style sheets, no scripts from files."""
        inside = all(address.startswith("data:image/png;base64,") for address in self.addresses)
        own = self.html.replace(charts.library() or "-", "")  # the library of charts can fetch, and is asked for nothing to fetch
        return inside and not self.tags["link"] and not re.search(r"url\(|@import|fetch\(|XMLHttp|https?://", own)
