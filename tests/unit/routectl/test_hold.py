"""A session lease that ends with the daemon, after the answer to its command was written."""

from __future__ import annotations

import io
import json
from typing import cast

import pytest

from ipc.blocking import ControlClient, DaemonUnreachable, ExitStatus
from routectl.execute import Output, hold
from routectl.grammar import Invocation
from routectl.render.json import JsonOutput
from routectl.render.text import TextOutput


class EndedClient:
    """A client whose daemon ends."""

    def wait_for_end(self) -> None:
        raise DaemonUnreachable("routed has ended")


def end_of(output: Output) -> ExitStatus:
    output.report(["route added"])
    client = cast("ControlClient", EndedClient())
    return hold(cast("Invocation", None), client, output)


@pytest.mark.parametrize("is_pretty", [False, True])
def test_json_stays_one_document(is_pretty: bool) -> None:
    out = io.StringIO()
    assert end_of(JsonOutput(out, is_pretty=is_pretty)) is ExitStatus.UNREACHABLE
    assert json.loads(out.getvalue()) == {"version": 1, "data": [{"text": "route added"}]}


def test_people_read_why_it_ended() -> None:
    out, errors = io.StringIO(), io.StringIO()
    assert end_of(TextOutput(out, errors, has_color=False)) is ExitStatus.UNREACHABLE
    assert errors.getvalue().endswith("routed has ended\n")
