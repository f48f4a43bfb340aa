"""The verbs on a generator's codes of rows: encode, reconstruct, anomaly, compress, cluster, classify, edit,
interpolate.
"""

from __future__ import annotations

from typing import Any

from genpipe.cli.app import app
from genpipe.cli.models import delivered, perform
from genpipe.cli.options import asked, options
from genpipe.cli.output import say, warn
from genpipe.requests import (
    Anomaly,
    Classify,
    Cluster,
    Compress,
    Edit,
    Encode,
    Interpolate,
    Reconstruct,
    Request,
)


def _done(request: type[Request], **given: Any) -> None:
    """Do it; say what was measured and where the rows are."""
    made = perform(asked(request, given))
    scores = made.manifest.origin.get("scores", {})
    if scores:
        say(**scores)
    delivered(made, given["output"])
    if given.get("strip"):
        say(strip=given["strip"])
    if holds := made.manifest.origin.get("holds", ""):
        warn(f"these rows are {holds}")


@app.command()
@options(Encode)
def encode(model: str, dataset: str, **given: Any) -> None:
    """Give the code of each row: z_0, z_1, ... beside its split and number. For models with an encoder (VAE).

    \b
    genpipe train digits --recipe image_vae
    genpipe encode digits digits --keep label --output codes.parquet
    """
    _done(Encode, model=model, dataset=dataset, **given)


@app.command()
@options(Reconstruct)
def reconstruct(model: str, dataset: str, **given: Any) -> None:
    """Decode the code of each row again, and say how far off that is: of a VAE in nats, and squared.

    \b
    genpipe reconstruct digits digits --split holdout --rows 100
    """
    _done(Reconstruct, model=model, dataset=dataset, **given)


@app.command()
@options(Anomaly)
def anomaly(model: str, dataset: str, **given: Any) -> None:
    """Say how unusual a model finds each row, higher for more unusual; it is not told the row's class.

    \b
    genpipe anomaly digits new-digits
    genpipe anomaly digits mixed --planted origin --usual digit
    """
    _done(Anomaly, model=model, dataset=dataset, **given)


@app.command()
@options(Compress)
def compress(model: str, dataset: str, **given: Any) -> None:
    """Round the codes of rows and decode them: bits a value and what is lost, beside PNG, FLAC or DEFLATE.

    \b
    genpipe compress digits digits --split holdout --step 0.5
    """
    _done(Compress, model=model, dataset=dataset, **given)


@app.command()
@options(Cluster)
def cluster(model: str, dataset: str, **given: Any) -> None:
    """Group rows by their codes, and say how well groups are apart and agree with a label column.

    \b
    genpipe cluster digits digits --clusters 10 --against label
    """
    _done(Cluster, model=model, dataset=dataset, **given)


@app.command()
@options(Classify)
def classify(model: str, dataset: str, **given: Any) -> None:
    """Read labels off codes by a linear classifier, learnt from few labels or all; judged on held-out rows.

    \b
    genpipe classify digits digits --target label --labelled 10
    """
    _done(Classify, model=model, dataset=dataset, **given)


@app.command()
@options(Edit)
def edit(model: str, dataset: str, **given: Any) -> None:
    """Move rows towards a value: the model's target, or any column of labels.

    \b
    genpipe edit digits digits --toward label=3 --rows 10 --strip threes.png
    genpipe edit people people --toward education=Masters --strength 2
    """
    _done(Edit, model=model, dataset=dataset, **given)


@app.command()
@options(Interpolate)
def interpolate(model: str, **given: Any) -> None:
    """Make rows on the way between two rows, or between codes that the model draws.

    \b
    genpipe interpolate digits --steps 10 --ways 3 --strip ways.png
    genpipe interpolate digits --dataset digits --between 4 --between 11
    """
    _done(Interpolate, model=model, **given)
