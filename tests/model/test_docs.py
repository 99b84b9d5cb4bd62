"""docs/models.md tells the truth: its examples run, its table and its list of model types are the program's."""

import doctest
import re
from pathlib import Path

from simserve.model import load_model, model_names
from simserve.model.families import FAMILIES

DOC = Path(__file__).parents[2] / "docs" / "models.md"


def test_examples_run():
    result = doctest.testfile(str(DOC), module_relative=False)
    assert result.attempted > 0 and result.failed == 0


def test_table_is_current():
    rows = {}
    for line in DOC.read_text().split("## Bundled models")[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[1].endswith(" B"):
            rows[cells[0]] = cells[1:]
    assert sorted(rows) == model_names()
    for name, (parameters, active, weights, kv, _) in rows.items():
        model = load_model(name)
        assert parameters == f"{model.parameters() / 1e9:.2f} B"
        assert active == f"{model.active_parameters() / 1e9:.2f} B"
        assert weights == f"{model.weight_bytes() / 1e9:.1f} GB"
        assert kv == f"{model.kv_bytes_per_token():.0f}"


def test_model_types_are_listed():
    paragraph = DOC.read_text().split("Model types: ")[1].split("\nAny other")[0]
    assert sorted(re.findall(r"`([\w-]+)`", paragraph)) == sorted(FAMILIES)
