"""Control overrides and calls methods of uvicorn's that are no part of its API: a change of them fails here."""

from __future__ import annotations

import inspect

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


def test_uvicorn_serves_by_the_methods_that_control_overrides_and_calls() -> None:
    server = uvicorn.Server
    assert inspect.iscoroutinefunction(server._serve)
    assert [*inspect.signature(server._serve).parameters] == ["self", "sockets"]
    assert "main_loop" in server._serve.__code__.co_names
    assert [*inspect.signature(server.main_loop).parameters] == ["self"]
    assert [*inspect.signature(server.on_tick).parameters] == ["self", "counter"]
    assert "on_tick" in server.main_loop.__code__.co_names
    connection = HttpToolsProtocol
    assert [*inspect.signature(connection.connection_made).parameters] == ["self", "transport"]
    assert [*inspect.signature(connection.data_received).parameters] == ["self", "data"]
    assert [*inspect.signature(connection.on_headers_complete).parameters] == ["self"]
    assert {"cycle", "loop"} <= {*connection.__init__.__code__.co_names}
    assert {"more_body", "response_complete"} <= {*RequestResponseCycle.__init__.__code__.co_names}
