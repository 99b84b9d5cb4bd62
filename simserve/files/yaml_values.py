"""The values in YAML files that every process reads (profiles, price lists, records), kept between processes: parsing takes longer than
whatever else is done with them."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import yaml

from simserve.errors import ConfigError
from simserve.files import yaml_text
from simserve.files.kept import Kept
from simserve.files.text import read_text
from simserve.files.yaml_text import Document

KEPT = Kept("values", most_files=200)


def read_values(path: Path) -> Document:
    """As `yaml_text.read`: the same values, whose places are found when they are asked for. They depend on the text, on the code that
    reads it and on the parser, and the key has all three. Raises ConfigError likewise."""
    text = read_text(path, ConfigError, what="a YAML file")
    try:
        key = hashlib.sha256(f"{_code()} {yaml.__version__} {text}".encode()).hexdigest()[:40]
    except OSError:  # without source, as from an archive
        return yaml_text.parse(text, str(path))
    known = KEPT.get(key)
    if known is not None:
        return Document(str(path), json.loads(known), text=text)
    document = yaml_text.parse(text, str(path))
    KEPT.put(key, json.dumps(document.data).encode())
    return document


@functools.lru_cache(maxsize=1)
def _code() -> str:
    return hashlib.sha256(Path(yaml_text.__file__).read_bytes()).hexdigest()
