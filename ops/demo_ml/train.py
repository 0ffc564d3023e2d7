"""The job of the demo: learns to read handwritten digits, and goes on from where it was cut.

Runs in the image (Debian's Python and scikit-learn), in no other place. In `/workspace`:

    inputs/digits.csv.gz   1,797 real digits: 64 grey values of 8 x 8 dots, then which digit it is
    progress.pkl           what was learnt so far, written whole after each epoch; found again when the job is resumed
    results/model.json     the weights and the accuracy on digits that it never learnt from
"""

import gzip
import json
import os
import pickle  # nosec B403  # of its own progress
import time
from pathlib import Path

import numpy
from sklearn.neural_network import MLPClassifier

WORKSPACE = Path("/workspace")
DIGITS = WORKSPACE / "inputs" / "digits.csv.gz"
PROGRESS = WORKSPACE / "progress.pkl"
RESULTS = WORKSPACE / "results"
LEARN = 1_437  # of the digits; the last 360 test what was learnt


def main() -> None:
    epochs, seconds_an_epoch = int(os.environ.get("EPOCHS", "30")), float(os.environ.get("SECONDS_AN_EPOCH", "0"))
    with gzip.open(DIGITS, "rt") as file:
        table = numpy.loadtxt(file, delimiter=",")
    values, digits = table[:, :64] / 16.0, table[:, 64].astype(int)
    done, model = load()
    for epoch in range(done + 1, epochs + 1):
        began = time.monotonic()
        model.partial_fit(values[:LEARN], digits[:LEARN], classes=range(10))
        save(epoch, model)
        print(f"dms-metric loss={model.loss_:.5f} step={epoch}", flush=True)
        time.sleep(max(0.0, seconds_an_epoch - (time.monotonic() - began)))
    accuracy = float(model.score(values[LEARN:], digits[LEARN:]))
    write(model, accuracy)
    print(f"accuracy on {len(digits) - LEARN} digits that were not learnt: {accuracy:.3f}", flush=True)


def load() -> tuple[int, MLPClassifier]:
    """The epochs that are done, and what they taught."""
    if not PROGRESS.exists():
        print("begins with epoch 1", flush=True)
        return 0, MLPClassifier(hidden_layer_sizes=(32,), learning_rate_init=0.005, random_state=1)
    done, model = pickle.loads(PROGRESS.read_bytes())  # nosec B301  # what this job has written
    print(f"goes on with epoch {done + 1}: epochs 1 to {done} were found", flush=True)
    return done, model


def save(epoch: int, model: MLPClassifier) -> None:
    new = PROGRESS.with_suffix(".new")
    new.write_bytes(pickle.dumps((epoch, model)))
    new.rename(PROGRESS)


def write(model: MLPClassifier, accuracy: float) -> None:
    RESULTS.mkdir(exist_ok=True)
    weights = [layer.tolist() for layer in model.coefs_]
    offsets = [layer.tolist() for layer in model.intercepts_]
    document = {"accuracy": accuracy, "weights": weights, "offsets": offsets}
    (RESULTS / "model.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
