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


def key_value() -> Any:
    """The key-value store of the cluster's head (mailbox.py)."""
    from ray.experimental import internal_kv

    return internal_kv


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


def controller_callback() -> Any:
    """What the controller of a trainer, an actor, calls in its own process when it starts, ends and so on."""
    from ray.train.v2._internal.execution.callback import ControllerCallback

    return ControllerCallback


class ByValue:
    """A training function that travels with the controller; Ray's own is a reference into its store."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def get(self) -> Any:
        return self._function


def carry_by_value() -> None:
    """Let trainers of this process hand on their function by value (7 kB).

    Ray puts it into the object store of the driver's node. When that node goes, Ray wants to save the object,
    finds the store gone, and ends the process without a word, before watch.py can say why.
    """
    from ray.train.v2.api import data_parallel_trainer

    module: Any = data_parallel_trainer
    module.ObjectRefWrapper = ByValue


def cleaner_callback() -> type:
    """What removes the placement group of a controller that was killed, by asking the dashboard: a detached
    actor, which stays for ever where there is none to ask.
    """
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

    return PlacementGroupCleanerCallback


def orphaned_groups() -> list[Any]:
    """Placement groups of this job whose maker, an actor, is dead; Ray keeps them as long as the job.

    Those that the driver made have no such maker, and are told of as if it were dead.
    """
    import ray
    from ray._private.state import state
    from ray.core.generated import gcs_pb2
    from ray.util.placement_group import PlacementGroup

    messages: Any = gcs_pb2  # generated, without types
    Group = messages.PlacementGroupTableData
    job = bytes.fromhex(ray.get_runtime_context().get_job_id())
    known = map(Group.FromString, state._connect_and_get_accessor().get_placement_group_table())
    return [
        PlacementGroup(ray.PlacementGroupID(group.placement_group_id))
        for group in known
        if group.creator_job_id == job
        and group.creator_actor_dead
        and not ray.ActorID(group.creator_actor_id).is_nil()
        and not group.is_detached
        and group.state != Group.REMOVED
    ]


def training_thread() -> Any:
    """The thread that runs a Tune trial's function in this process, or None."""
    from ray.train._internal.session import get_session

    session = get_session()
    return None if session is None else session.training_thread
