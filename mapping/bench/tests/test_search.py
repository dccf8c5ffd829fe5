# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from mapping.bench import search as bench_search
from mapping.bench.search import StepTime, missed_step_times, step_time
from npuloop.cli.console import console


@pytest.fixture(scope="module")
def resnet8() -> StepTime:
    return step_time("ResNet8", repeats=1)


def test_a_search_step_of_resnet8_takes_less_than_twice_a_plain_one(resnet8: StepTime) -> None:
    """Processor time of one thread, so that other work on the machine does not count."""
    assert 1 < resnet8.ratio < 2
    assert missed_step_times([resnet8]) == []


def test_the_cost_is_evaluated_and_its_time_is_counted(resnet8: StepTime) -> None:
    assert 0 < resnet8.evaluation < resnet8.search


def test_a_slow_search_is_reported(resnet8: StepTime) -> None:
    slow = replace(resnet8, search=2.1 * resnet8.plain)
    assert missed_step_times([slow]) == [
        "a search step of ResNet8 takes 2.10 times a plain one, the limit is 2.0"
    ]


def test_the_table_has_a_row_for_every_network(resnet8: StepTime) -> None:
    with console.capture() as capture:
        console.print(bench_search.step_table([resnet8, replace(resnet8, network="digits")]))
    lines = capture.get().splitlines()
    assert any(line.startswith("ResNet8") and f"{resnet8.ratio:.2f}" in line for line in lines)
    assert any(line.startswith("digits") for line in lines)
