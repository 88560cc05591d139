"""Makes the pickles of one version of scikit-learn, and their answers: `python make_old_sklearn.py FOLDER`.

It runs under that version, and writes FOLDER/<version>/. old_sklearn.tar.xz beside this file has the folders of 0.20.4
(Python 3.6), 0.23.2 and 0.24.2 (3.7), 1.0.2 (3.8), 1.2.1 (3.9), 1.4.2 and 1.6.1 (3.10), each with the joblib of then.
It is written for the oldest Python of these.
"""

import json
import os
import sys

import joblib
import numpy as np
import sklearn
from sklearn import ensemble, linear_model, naive_bayes, neighbors, pipeline, preprocessing, svm, tree

random = np.random.RandomState(0)
ROWS = random.normal(size=(40, 4))
SUM = ROWS[:, 0] + ROWS[:, 1]
BINARY = (SUM > 0).astype(int)
TEXT = np.array(["a", "b", "c"])[np.digitize(SUM, [-1, 1])]
MODELS = {
    "ridge": (linear_model.Ridge(), SUM),
    "linreg": (linear_model.LinearRegression(), SUM),
    "logreg": (linear_model.LogisticRegression(), TEXT),
    "pipe": (pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()), BINARY),
    "svc": (svm.SVC(gamma="scale"), BINARY),
    "nb": (naive_bayes.GaussianNB(), BINARY),
    "knn": (neighbors.KNeighborsClassifier(), BINARY),
    "dt": (tree.DecisionTreeClassifier(max_depth=2), TEXT),
    "rf": (ensemble.RandomForestRegressor(n_estimators=2, max_depth=2), SUM),
    "gb": (ensemble.GradientBoostingClassifier(n_estimators=2, max_depth=2), BINARY),
}

folder = os.path.join(sys.argv[1], sklearn.__version__)
os.makedirs(folder)
answers = {}
for name, (model, labels) in MODELS.items():
    model.fit(ROWS, labels)
    answers[name] = model.predict(ROWS[:5]).tolist()
    joblib.dump(model, os.path.join(folder, name + ".joblib"), compress=3 if name == "svc" else 0)
with open(os.path.join(folder, "answers.json"), "w") as file:
    json.dump({"rows": ROWS[:5].tolist(), "answers": answers}, file)
