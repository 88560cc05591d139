"""Flask's Response, where Flask is not installed: what scripts return on images that answer with Flask."""

from typing import NoReturn

from hostler.servers.scripts.flask_response import Response, as_json

__all__ = ["Response", "jsonify"]


def jsonify(*values: object, **members: object) -> Response:
    """Return a Response of a JSON object, or of a list of several values."""
    value = members or (values[0] if len(values) == 1 else [*values])
    return Response(as_json(value), mimetype="application/json")


def __getattr__(name: str) -> NoReturn:
    raise ModuleNotFoundError(f"of flask only Response and jsonify are here, and not {name}", name="flask")
