"""Real boxes on loopback, started once for each worker and made as new for each test."""

from __future__ import annotations

import pytest

from tests.execution.boxes import opened
from tests.execution.desk import Desk


@pytest.fixture(scope="session")
def _boxes(tmp_path_factory):
    boxes = opened(tmp_path_factory.mktemp("boxes"), 2)
    yield boxes
    boxes.close()


@pytest.fixture
def boxes(_boxes):
    _boxes.reset()
    yield _boxes
    _boxes.reset()


@pytest.fixture
def box(boxes):
    return boxes[0]


@pytest.fixture
def far_desk(tmp_path, boxes):
    desk = Desk(tmp_path, boxes)
    yield desk
    desk.close()
