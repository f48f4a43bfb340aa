"""All that we take of Ray beside its public names; `tests/unit/test_internals.py` names the version it was
found in, and what must hold of each. Ray is imported when one of them is asked for.
"""

from __future__ import annotations

from typing import Any


def ray_constants() -> Any:
    """Constants read from the environment when Ray is imported; ENABLE_RAY_CLUSTER: whether it listens for
    other machines.
    """
    from ray._private import ray_constants

    return ray_constants


def forget_token() -> None:
    """Make Ray read mode and token from the environment again: it keeps both from the first time it asks."""
    from ray import _raylet

    raylet: Any = _raylet  # compiled, without types
    raylet.Config.initialize("")  # first the mode: a thread that still runs would miss its token
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def dataset_callback() -> type:
    """What hands out shards of Ray Data to the workers of a trainer: an actor."""
    from ray.train.v2._internal.callbacks import DatasetsCallback

    return DatasetsCallback


def cleaner_callback() -> type:
    """What removes the placement group of a controller that was killed, by asking the dashboard: an actor."""
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

    return PlacementGroupCleanerCallback


def training_thread() -> Any:
    """The thread that runs a Tune trial's function in this process, or None."""
    from ray.train._internal.session import get_session

    session = get_session()
    return None if session is None else session.training_thread
