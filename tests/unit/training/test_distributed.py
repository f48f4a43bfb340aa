"""Real processes: one worker and many must come to the same weights on one global batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from genpipe.errors import UsageError
from genpipe.recipe import Recipe, make_family
from genpipe.recipes import parse_recipe
from genpipe.spec import TensorSpec
from genpipe.training import loop, state
from genpipe.training.data import Resident
from genpipe.training.distributed import ALONE, Ranks
from genpipe.training.loop import fit
from genpipe.training.state import TrainingState

SPEC = TensorSpec(layout="grid", shape=(1, 8, 8), dtype="uint8", conditions=(3,))
WORLD = 2  # a batch of 21 on 2 workers: uneven slices
GAMES: dict[str, dict] = {
    "vae": {"base": "image_vae"},
    "wgan_gp": {
        "base": "image_gan",
        "family": {"adversarial": "wasserstein", "penalty": "gradient_penalty", "critic_steps": 2},
    },
    "vq": {"base": "image_vq", "family": {"quantiser": "vq", "share": 0.5}},
    "settle": {"base": "image_vae"},
}


def images() -> Resident:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (40, 1, 8, 8), dtype=np.uint8)
    return Resident({"x": x, "condition": rng.integers(0, 3, (40, 1), dtype=np.int32)}, seed=0)


def recipe(game: str) -> Recipe:
    steps = {"vae": 6, "wgan_gp": 1, "vq": 2, "settle": 12}[game]
    training = {"steps": steps, "batch_size": 21, "learning_rate": 1e-3, "betas": [0.9, 0.99], "ema": 0.5}
    if game == "settle":
        training["schedule"] = "settle"
    training["precision"] = "float32"  # sums over other parts of a batch differ by its rounding alone
    return parse_recipe(GAMES[game] | {"training": training}, "image")


def train(game: str, ranks: Ranks) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    losses = iter([9.0, 8.0, 7.999])

    def watch(nets: object) -> dict[str, float]:
        assert ranks.lead, "only the lead looks at the holdout"
        return {"nats": next(losses)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "FIRST_STEPS", 0)
        result = fit(
            recipe(game), SPEC, images(), seed=0, ranks=ranks, watch=watch,
            evaluate=lambda nets, step: {"loss": float(-step)},
        )  # fmt: skip
    metrics = torch.tensor([value for _, value in sorted(result.metrics.items())])
    return {**result.weights, "metrics": metrics}


def states(game: str, ranks: Ranks = ALONE) -> dict[str, torch.Tensor]:
    """Everything the loop's state holds after a run, and under their plain names the weights it published."""
    finish, kept = loop.fit_result, {}

    def keep(ended: TrainingState) -> loop.FitResult:
        kept.update({n: t.clone() for n, t in ended.tensors().items()})
        kept["length"] = torch.tensor(ended.last)
        return finish(ended)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "fit_result", keep)
        train(game, ranks)
    return kept


def initial(game: str) -> dict[str, torch.Tensor]:
    chosen = recipe(game)
    with torch.random.fork_rng(devices=[]):
        return TrainingState(make_family(chosen, SPEC), chosen.training, seed=0, device="cpu").weights()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """What two processes that run this file ended with."""
    from safetensors.torch import load_file

    folder = tmp_path_factory.mktemp("ranks")
    running = [subprocess.Popen([sys.executable, __file__, str(folder), str(rank)]) for rank in range(WORLD)]
    assert [p.wait(timeout=150) for p in running] == [0] * WORLD
    return [load_file(folder / f"{rank}.safetensors") for rank in range(WORLD)]


def test_replicas_are_bit_equal(ranks: list[dict[str, torch.Tensor]]) -> None:
    names = [n for n in ranks[0] if ".replica." in n]
    assert any("optimizer" in n for n in names) and any("average" in n for n in names)
    for name in names:
        assert torch.equal(ranks[0][name], ranks[1][name]), name


def test_workers_agree_with_one_process_on_weights(ranks: list[dict[str, torch.Tensor]]) -> None:
    alone, start = train("vae", Ranks()), initial("vae")
    torch.testing.assert_close(ranks[0]["vae.metrics"], alone.pop("metrics"), rtol=1e-4, atol=1e-5)
    for key, tensor in alone.items():
        if key.startswith("prior."):  # fitted after training, by the lead alone
            continue
        moved = (tensor - start[key]).norm()
        apart = (ranks[0][f"vae.{key}"] - tensor).norm()
        assert moved > 0 and apart < 0.01 * moved, f"{key}: apart by {apart}, moved by {moved}"


def test_workers_settle_when_the_lead_sees_it(ranks: list[dict[str, torch.Tensor]]) -> None:
    """The third loss, at step 3, hardly fell."""
    assert [int(told["settle.replica.length"]) for told in ranks] == [6, 6]
    assert int(states("settle")["length"]) == 6


def test_workers_agree_on_gradients_that_were_differentiated_twice(
    ranks: list[dict[str, torch.Tensor]],
) -> None:
    """After one step, where Adam has not yet blown up rounding: the moments are the gradients."""
    alone, compared = states("wgan_gp"), 0
    for name, mine in alone.items():
        if name.startswith("optimizer.critic.first.") and mine.norm() > 1e-6:
            theirs = ranks[0][f"wgan_gp.replica.{name}"]
            assert (theirs - mine).norm() < 1e-4 * mine.norm(), name
            compared += 1
    assert compared >= 6


def test_workers_agree_on_codes_and_on_the_prior_that_learns_them(
    ranks: list[dict[str, torch.Tensor]],
) -> None:
    """A step of each of the two trainings; the codebook is one of the decoder's parameters."""
    alone, compared = states("vq"), set()
    for name, mine in alone.items():
        if ".first." in name and mine.norm() > 1e-4:
            theirs = ranks[0][f"vq.replica.{name}"]
            assert (theirs - mine).norm() < 1e-2 * mine.norm(), name
            compared.add(name.split(".")[1])
    assert compared == {"encoder", "decoder", "critic", "model"}


def test_a_batch_smaller_than_the_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="2 rows for 3 workers; expected at least 3"):
        Ranks(0, 3).rows(2)


if __name__ == "__main__":
    import torch.distributed as dist
    from safetensors.torch import save_file

    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=WORLD)
    found = {f"vae.{n}": t for n, t in train("vae", Ranks.current()).items()}
    for game in GAMES:
        found |= {f"{game}.replica.{n}": t for n, t in states(game, Ranks.current()).items()}
    save_file({n: t.contiguous() for n, t in found.items()}, folder / f"{rank}.safetensors")
    dist.destroy_process_group()
