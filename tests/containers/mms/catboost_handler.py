"""A handler as AWS's CatBoost notebook brings it: a classifier's file by its bare name, CSV with a header.

It answers probabilities. Multi Model Server runs it in the target's folder, one process a target.
"""

import io
from pathlib import Path
from typing import Any

import pandas
from catboost import CatBoostClassifier


class Handler:
    model: CatBoostClassifier = None

    def load(self, folder: str) -> None:
        [file] = Path(folder).glob("*.bin")
        self.model = CatBoostClassifier().load_model(file.name)

    def answer(self, body: bytes) -> dict[int, float]:
        table = pandas.read_csv(io.StringIO(body.decode()))
        return dict(enumerate(self.model.predict_proba(table).flatten().tolist()))


_handler = Handler()


def handle(data: Any, context: Any) -> Any:
    """Load the model at the first call, for which MMS has no data; then answer each batch, of one request here."""
    if _handler.model is None:
        _handler.load(context.system_properties["model_dir"])
    return [_handler.answer(data[0]["body"])] if data else None
