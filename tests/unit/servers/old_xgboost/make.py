"""Makes the models of one version of XGBoost, and the answers that it gives to them: `python make.py FOLDER`.

It runs under that version, and writes FOLDER/<version>.tar.xz: models in every form in which that version saves them,
and answers.json. The archives beside this file were made so, with scikit-learn, joblib and pandas of the time:

    XGBoost  Python  XGBoost  Python
    0.90     3.6     1.5.2    3.8
    1.0.2    3.6     1.7.6    3.9
    1.2.1    3.7     2.1.4    3.10
    1.3.3    3.7     3.0.5    3.10

It is written for the oldest Python of the table. In the names: `binary` is save_model into a file without an ending,
`booster` a pickled Booster, `estimator` a pickled XGBClassifier, XGBRegressor and so on, `joblib` the same with joblib.
"""

import io
import json
import os
import pickle
import sys
import tarfile
import tempfile

import joblib
import numpy as np
import xgboost

WIDTH = 4
NAN = float("nan")
ROWS = [
    [0.5, -1.0, 2.0, 0.0],
    [-0.25, 0.75, NAN, 1.5],
    [NAN, NAN, NAN, NAN],
    [3.0, -2.5, 0.125, -0.5],
    [0.0, 0.0, 0.0, 0.0],
]

random = np.random.RandomState(7)
TABLE = random.normal(size=(80, WIDTH)).astype(np.float32)
TABLE[random.uniform(size=TABLE.shape) < 0.1] = np.nan
SUM = np.nan_to_num(TABLE[:, 0] + 2 * TABLE[:, 1])
LABELS = {
    "real": SUM,
    "positive": np.exp(SUM / 3),
    "count": np.floor(np.exp(SUM / 3)),
    "binary": (SUM > 0).astype(int),
    "classes": np.digitize(SUM, [-1, 1]),
    "unit": 1 / (1 + np.exp(-SUM)),
}
KINDS = {  # name: labels, parameters, in what training differs
    "squarederror": ("real", {"objective": "reg:squarederror"}, {}),
    "linear": ("real", {"objective": "reg:linear"}, {}),
    "regularized": ("unit", {"objective": "reg:logistic", "base_score": 0.3}, {}),
    "logistic": ("binary", {"objective": "binary:logistic"}, {}),
    "logistic-base": ("binary", {"objective": "binary:logistic", "base_score": 0.85}, {}),
    "logitraw": ("binary", {"objective": "binary:logitraw"}, {}),
    "logitraw-base": ("binary", {"objective": "binary:logitraw", "base_score": 0.2}, {}),
    "hinge": ("binary", {"objective": "binary:hinge"}, {}),
    "softprob": ("classes", {"objective": "multi:softprob", "num_class": 3}, {}),
    "softmax": ("classes", {"objective": "multi:softmax", "num_class": 3, "base_score": 0.25}, {}),
    "poisson": ("count", {"objective": "count:poisson"}, {}),
    "poisson-base": ("count", {"objective": "count:poisson", "base_score": 1.7, "max_delta_step": 0.5}, {}),
    "gamma": ("positive", {"objective": "reg:gamma", "base_score": 2.5}, {}),
    "tweedie": ("positive", {"objective": "reg:tweedie", "tweedie_variance_power": 1.3}, {}),
    "cox": ("positive", {"objective": "survival:cox"}, {}),
    "pairwise": ("binary", {"objective": "rank:pairwise"}, {"group": [40, 40]}),
    "ndcg": ("binary", {"objective": "rank:ndcg"}, {"group": [40, 40]}),
    "gblinear": ("real", {"objective": "reg:squarederror", "booster": "gblinear"}, {}),
    "gblinear-classes": ("classes", {"objective": "multi:softprob", "num_class": 3, "booster": "gblinear"}, {}),
    "dart": ("binary", {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.5}, {}),
    "dart-classes": (
        "classes",
        {"objective": "multi:softprob", "num_class": 3, "booster": "dart", "rate_drop": 0.5},
        {},
    ),
    "forest": ("real", {"objective": "reg:squarederror", "num_parallel_tree": 3, "subsample": 0.6}, {}),
    "forest-classes": (
        "classes",
        {"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 2, "subsample": 0.6},
        {},
    ),
    "pruned": ("real", {"objective": "reg:squarederror", "gamma": 3.0, "max_depth": 4, "base_score": -1.5}, {}),
    "hist": ("real", {"objective": "reg:squarederror", "tree_method": "hist"}, {}),
    "names": ("real", {"objective": "reg:squarederror"}, {"names": True}),
    "early": ("binary", {"objective": "binary:logistic", "eta": 1.0}, {"early": True}),
    "early-classes": ("classes", {"objective": "multi:softprob", "num_class": 3, "eta": 1.0}, {"early": True}),
    "attributes": ("real", {"objective": "reg:squarederror"}, {"attributes": {"made by": "tests", "\u00e9": "\u00fc"}}),
}
ESTIMATORS = {  # name: labels, class, parameters
    "regressor": ("real", xgboost.XGBRegressor, {}),
    "classifier": ("binary", xgboost.XGBClassifier, {}),
    "classifier-classes": ("classes", xgboost.XGBClassifier, {}),
    "classifier-text": (None, xgboost.XGBClassifier, {}),
    "forest-regressor": ("real", xgboost.XGBRFRegressor, {}),
}
VERSION = tuple(int(part) for part in xgboost.__version__.split(".")[:2])


def trained(kind):
    labels, params, more = KINDS[kind]
    y = LABELS[labels]
    names = ["age", "height in m", "weight", "x"] if more.get("names") else None
    types = ["float", "int", "q", "float"] if more.get("names") else None
    matrix = xgboost.DMatrix(TABLE, y, feature_names=names, feature_types=types)
    if more.get("group"):
        matrix.set_group(more["group"])
    arguments = {}
    rounds = 3
    if more.get("early"):
        held = xgboost.DMatrix(TABLE[:30], random.permutation(y[:30]))
        arguments = {"evals": [(held, "validation")], "early_stopping_rounds": 2, "verbose_eval": False}
        rounds = 20
    every = {"max_depth": 2, "nthread": 1, "seed": 1}
    every.update({"verbosity": 0})
    every.update(params)
    booster = xgboost.train(every, matrix, rounds, **arguments)
    booster.set_attr(**more.get("attributes", {}))
    return booster, names, types


def answers(booster, kind, names, types):
    rows = xgboost.DMatrix(np.array(ROWS, dtype=np.float32), feature_names=names, feature_types=types)
    limit = (
        {"ntree_limit": 3} if VERSION < (1, 0) and kind.startswith("dart") else {}
    )  # without one, 0.90 predicts with dropout
    return {
        "predictions": booster.predict(rows, **limit).tolist(),
        "margins": booster.predict(rows, output_margin=True, **limit).tolist(),
        "attributes": booster.attributes(),
        "names": names,
        "best_ntree_limit": getattr(booster, "best_ntree_limit", None)
        if "best_iteration" in booster.attributes()
        else None,
    }


def saved(booster, ending, folder):
    path = os.path.join(folder, "model" + ending)
    booster.save_model(path)
    with open(path, "rb") as file:
        return file.read()


def main(folder):
    told = {}
    target = os.path.join(folder, xgboost.__version__ + ".tar.xz")
    with tempfile.TemporaryDirectory() as temporary, tarfile.open(target, "w:xz") as archive:

        def put(name, data):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        for kind in KINDS:
            try:
                booster, names, types = trained(kind)
            except xgboost.core.XGBoostError as error:  # what that version has not
                print(kind, str(error).splitlines()[0][:150])
                continue
            told[kind] = answers(booster, kind, names, types)
            if VERSION < (3, 1):
                put("binary/" + kind, saved(booster, "" if VERSION < (2, 1) else ".deprecated", temporary))
            put("booster/" + kind, pickle.dumps(booster, 2 if kind == "dart" else 4))
            if VERSION >= (1, 0) and kind in ("logistic", "softprob", "gblinear", "logitraw", "names"):
                put("json/" + kind, saved(booster, ".json", temporary))
        for kind, (labels, maker, params) in ESTIMATORS.items():
            y = LABELS[labels] if labels else np.array(["low", "middle", "high"])[LABELS["classes"]]
            model = maker(n_estimators=3, max_depth=2, n_jobs=1, **params)
            try:
                model.fit(TABLE, y)
            except ValueError as error:  # text is no class in later versions
                print(kind, error)
                continue
            rows = np.array(ROWS, dtype=np.float32)
            told[kind] = {"predictions": model.predict(rows).tolist()}
            told[kind]["margins"] = model.get_booster().predict(xgboost.DMatrix(rows), output_margin=True).tolist()
            put("estimator/" + kind, pickle.dumps(model, 4))
            path = os.path.join(temporary, "model.joblib")
            joblib.dump(model, path, compress=3 if kind == "classifier" else 0)
            with open(path, "rb") as file:
                put("joblib/" + kind, file.read())
        put("answers.json", json.dumps(told, indent=0, sort_keys=True).encode())


main(sys.argv[1])
