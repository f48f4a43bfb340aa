"""What we take of Ray and torch beside their public names: found in the versions named here.

A test that fails after an upgrade names the symbol, and its docstring in genpipe/ says what it was for.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
import torch

from genpipe.stages import ray_internals
from genpipe.training.torch_internals import copy_, fused_adamw_, lerp_

FOUND_IN = {"torch": "2.13", "ray": "2.60"}


@pytest.mark.parametrize("package", FOUND_IN)
def test_the_versions_in_which_they_were_found(package: str) -> None:
    assert version(package).startswith(f"{FOUND_IN[package]}."), f"look through what is taken of {package}"


def test_fused_adamw_makes_the_step_of_the_public_optimizer() -> None:
    start, gradient = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.1, 0.2, -0.3])
    public = torch.nn.Parameter(start.clone())
    public.grad = gradient.clone()
    torch.optim.AdamW([public], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1).step()
    mine, count = start.clone(), torch.zeros(())
    first, second = torch.zeros(3), torch.zeros(3)
    count.add_(1)
    fused_adamw_(
        [mine], [gradient], [first], [second], [], [count],
        lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, amsgrad=False, maximize=False,
    )  # fmt: skip
    torch.testing.assert_close(mine, public.detach())


def test_lerp_and_copy_change_lists_of_tensors_in_place() -> None:
    a, b = [torch.tensor([0.0, 1.0])], [torch.tensor([1.0, 3.0])]
    lerp_(a, b, 0.25)
    assert a[0].tolist() == [0.25, 1.5]
    copy_(a, b)
    assert a[0].tolist() == [1.0, 3.0]


def test_ray_reads_whether_it_listens_for_others_from_a_constant() -> None:
    assert isinstance(ray_internals.ray_constants().ENABLE_RAY_CLUSTER, bool)


def test_ray_has_a_store_of_keys_and_values() -> None:
    """With the parameters that mailbox.py names."""
    wanted = {
        "put": {"overwrite", "namespace"},
        "get": {"namespace"},
        "list": {"namespace"},
        "del": {"del_by_prefix", "namespace"},
        "reset": set(),
    }
    for name, parameters in wanted.items():
        function = getattr(ray_internals.key_value(), f"_internal_kv_{name}")
        assert parameters <= set(inspect.signature(function).parameters), name


def test_ray_keeps_mode_and_token_until_it_is_told_to_forget() -> None:
    from ray import _raylet

    assert callable(_raylet.Config.initialize)
    assert callable(_raylet.AuthenticationTokenLoader.instance().reset_cache)


def test_the_callbacks_left_out_are_among_those_of_a_trainer() -> None:
    from ray.train.torch import TorchTrainer

    made = inspect.getsource(TorchTrainer._create_default_callbacks)  # type: ignore[attr-defined]
    for callback in (ray_internals.dataset_callback(), ray_internals.cleaner_callback()):
        assert f"{callback.__name__}(" in made


def test_a_controller_calls_back_when_it_starts() -> None:
    from ray.train.v2._internal.execution.controller.controller import TrainController

    assert list(inspect.signature(ray_internals.controller_callback().after_controller_start).parameters) == [
        "self",
        "train_run_context",
    ]
    assert "after_controller_start" in inspect.getsource(TrainController._start)


def test_a_trainer_wraps_its_function_by_a_name_of_its_module() -> None:
    from ray.train.v2.api import data_parallel_trainer

    made = inspect.getsource(data_parallel_trainer.DataParallelTrainer.fit)
    assert "ObjectRefWrapper(train_fn)" in made
    assert ray_internals.ByValue("function").get() == "function"


def test_outside_a_trial_there_is_no_training_thread() -> None:
    assert ray_internals.training_thread() is None


def test_ray_tells_who_made_a_placement_group() -> None:
    from ray._private.state import state
    from ray.core.generated import gcs_pb2

    group = gcs_pb2.PlacementGroupTableData  # type: ignore[attr-defined]
    names = {field.name for field in group.DESCRIPTOR.fields}
    assert {"placement_group_id", "is_detached", "state"} <= names
    assert {"creator_job_id", "creator_actor_id", "creator_actor_dead"} <= names
    assert group.REMOVED != group.CREATED
    assert callable(state._connect_and_get_accessor)
