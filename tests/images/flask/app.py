"""A model behind Flask: it multiplies numbers by the factor in its model data, else by FACTOR, else by 2."""

import os
from pathlib import Path

from flask import Flask, Response, request

app = Flask(__name__)
MODEL = Path("/opt/ml/model/factor")


@app.get("/ping")
def ping() -> Response:
    return Response("\n", mimetype="application/json")


@app.post("/invocations")
def invocations() -> Response:
    if request.mimetype != "text/csv":
        return Response("This model takes text/csv", 415, mimetype="text/plain")
    factor = float(MODEL.read_text() if MODEL.exists() else os.environ.get("FACTOR", "2"))
    numbers = [float(number) * factor for number in request.get_data(as_text=True).split(",")]
    return Response(",".join(map(str, numbers)), mimetype="text/csv")
