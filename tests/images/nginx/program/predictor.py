"""A scikit-learn model behind Flask. It is loaded at the first call, a ping as a rule."""

import functools
import io
import pickle
from pathlib import Path
from typing import Any

import numpy
from flask import Flask, Response, request

MODEL = Path("/opt/ml/model/decision-tree-model.pkl")
app = Flask(__name__)


@functools.cache
def model() -> Any:
    return pickle.loads(MODEL.read_bytes())


@app.get("/ping")
def ping() -> Response:
    """Answer 200 if the model can be loaded."""
    return Response("\n", 200 if model() else 404, mimetype="application/json")


@app.post("/invocations")
def invocations() -> Response:
    """Predict a class for each row of the CSV."""
    if request.content_type != "text/csv":
        return Response("This predictor only supports CSV data", 415, mimetype="text/plain")
    rows = numpy.loadtxt(io.StringIO(request.get_data(as_text=True)), delimiter=",", ndmin=2)
    return Response("".join(f"{label}\n" for label in model().predict(rows)), mimetype="text/csv")
