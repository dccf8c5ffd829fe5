# SPDX-License-Identifier: Apache-2.0
"""The table of operators: it is what the documentation shows, and what the importer does."""

from pathlib import Path

import pytest

import golden
from common.errors import UnsupportedError
from golden.importers.testing import conv, imported, schema
from golden.importers.tflite_operators import CONVERTERS, REASONS, operator_table, refusal

PAGE = Path(golden.__file__).parent.parent / "docs" / "how-to" / "networks.md"


def test_the_page_has_the_table_that_the_code_prints() -> None:
    before, _, rest = PAGE.read_text().partition(
        "<!-- printed by: python -m golden.importers.tflite_operators -->\n"
    )
    assert before
    assert rest.partition("\n<!-- end -->")[0] == operator_table()


def test_every_operator_of_the_schema_is_converted_or_refused_by_its_name(tmp_path: Path) -> None:
    names = [name for name in vars(schema.BuiltinOperator) if name.isupper() and name != "CUSTOM"]
    assert set(CONVERTERS) < set(names)
    refused = [name for name in names if name not in CONVERTERS and not name.startswith("PLACEHOLDER")]
    for name in refused[:: len(refused) // 40]:
        case = conv()
        case.then(name, case.output(case.shape))
        with pytest.raises(UnsupportedError, match=rf"operator 1 \({name}\) is not supported"):
            imported(case.build(), tmp_path)


def test_reasons_are_for_operators_that_have_no_converter() -> None:
    assert not set(REASONS) & set(CONVERTERS)
    assert all(refusal(name) == reason for name, reason in REASONS.items())
    assert refusal("TANH") == ""
