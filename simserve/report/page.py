"""Pages: templates filled with content, pictures inside them, written whole. Templates: report/templates."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve.errors import OutputError
from simserve.report.files import write_whole
from simserve.report.rows import with_unit
from simserve.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

GENERATOR = '<meta name="generator" content="simserve">'
"""In the head of every page: only such a file is replaced without being asked to."""


class Picture(NamedTuple):
    """A plot as PNG, with the name of its file and its caption."""

    name: str
    caption: str
    png: bytes


def pictures(figures: Iterable[tuple[str, str, Figure]], even: bool = False) -> list[Picture]:
    """(name, caption, figure) drawn, one at a time to keep memory small. `even`: see `style.off_screen`."""
    from simserve.report.plots.style import off_screen, png_bytes

    with off_screen(even):
        return [Picture(name, caption, png_bytes(figure)) for name, caption, figure in figures]


def render(template: str, *, plots: Iterable[Picture] = (), **content: Any) -> str:
    """The page of a template; its plots become (caption, data address)."""
    embedded = [(plot.caption, "data:image/png;base64," + base64.b64encode(plot.png).decode()) for plot in plots]
    return _environment().get_template(template).render(**content, plots=embedded, generator=GENERATOR)


def write_page(path: Path, text: str, *, force: bool = False) -> None:
    """Writes a page, whole or not at all. Raises OutputError when something that is no page of ours is in its place, unless `force`."""
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; --out names a file, such as {path / 'report.html'}")
    if path.exists() and not force and GENERATOR.encode() not in path.read_bytes()[:4096]:
        raise OutputError(f"{path}: exists and is not a report of simserve; choose another file with --out, or replace it with --force")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no directory {path.parent}")
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    from simserve.report.kept_templates import kept_templates

    environment = Environment(
        loader=PackageLoader("simserve.report"), autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, bytecode_cache=kept_templates(_code()),
    )  # fmt: skip
    environment.filters["fraction"] = lambda value: with_unit(value, "%")
    environment.filters["unit"] = with_unit
    return environment


@functools.lru_cache(maxsize=1)
def _code() -> bytes:
    """This file, which says how templates are compiled. Without source, as in an archive: the version."""
    try:
        return Path(__file__).read_bytes()
    except OSError:
        return __version__.encode()
