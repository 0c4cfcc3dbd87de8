"""The peer: diffusers' UNet2DModel in the loop of diffusers' own documentation, sampled by its DDIM.

The loop is the one of the tutorial "Train a diffusion model" (docs/source/en/tutorials/basic_training.md): DDPMScheduler
of 1,000 linear steps, the mean square error of the noise, AdamW at 1e-4, 500 steps of warm-up and then half a cosine,
gradients clipped at 1, no moving average. What differs from it, and why:

- the classes, the batch and the number of parameters are those of the model that it is compared with;
- its images lie in memory as tensors, and nothing is decoded, mirrored (digits are no butterflies), drawn or saved;
- there is no Accelerator: for one process in float32 it passes every call through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.parameterizations import Noise as PredictsNoise
from langevin.diffusion.schedules import Tabulated
from langevin.evaluation.compatibility import declare_missing_operators
from langevin.methods.bounding import Chain
from langevin.protocols import Batch, Bound, Cond
from langevin.randomness import Keys, Noise

declare_missing_operators()  # diffusers imports torchvision
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel  # noqa: E402
from diffusers.optimization import get_cosine_schedule_with_warmup  # noqa: E402

# diffusers' decorators hide its classes from mypy
Network: TypeAlias = Any
Scheduler: TypeAlias = Any

CHAIN = 1000
WARMUP_STEPS = 500
TUTORIAL_RATE = 1e-4


def unet(image_shape: tuple[int, int, int], classes: int) -> Network:
    """The shape of the recipe's network: 32 and 64 channels, one layer a block, attention at half the side, 8 groups.

    The embedding scales and shifts, as ours does, which brings its parameters (756,161) to those of ours (756,417: one
    class more, "no class").
    """
    colours, side, _ = image_shape
    return UNet2DModel(
        sample_size=side,
        in_channels=colours,
        out_channels=colours,
        num_class_embeds=classes,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,  # its default of 32 would leave one channel a group, and is slower
        resnet_time_scale_shift="scale_shift",
    )


class Tutorial:
    """The tutorial's loop. data: the whole training split; batch: images a step; steps: of the whole training.

    Draws from torch's global generator, as the tutorial does: seed it first.
    """

    def __init__(self, network: Network, data: Batch, batch: int, steps: int, rate: float) -> None:
        assert data.labels is not None
        self.network = network
        self.loader = DataLoader(TensorDataset(data.images, data.labels), batch_size=batch, shuffle=True)
        self.noise_scheduler = chain()
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=rate)
        self.rate = get_cosine_schedule_with_warmup(self.optimiser, WARMUP_STEPS, num_training_steps=steps)
        self.batches = self._epochs()

    def train(self, images: int) -> int:
        """Trains on at least ``images`` more (an epoch's last batch may be smaller); returns how many there were."""
        done = 0
        while done < images:
            done += self._step(*next(self.batches))
        return done

    def _step(self, images: Tensor, labels: Tensor) -> int:
        noise = torch.randn(images.shape)
        timesteps = torch.randint(0, CHAIN, (len(images),))
        noisy = self.noise_scheduler.add_noise(images, noise, timesteps)
        predicted = self.network(noisy, timesteps, class_labels=labels, return_dict=False)[0]
        loss = mse_loss(predicted, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.rate.step()
        self.optimiser.zero_grad()
        loss.detach().item()  # for its log
        return len(images)

    def _epochs(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader


@dataclass(frozen=True)
class Peer:
    """A trained network behind our protocols Samples and Bounded, so that the one Evaluator judges both.

    calls: of the network, a sample; spacing: which of DDIM's grids, "leading" is the scheduler's default and "trailing"
    the one of our sampler; bounding: how the likelihood is bounded.
    """

    network: Network
    calls: int
    spacing: str
    bounding: Chain

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        scheduler: Scheduler = DDIMScheduler.from_config(chain().config, timestep_spacing=self.spacing)
        scheduler.set_timesteps(self.calls)
        config = self.network.config
        like = torch.empty(len(keys), config.in_channels, config.sample_size, config.sample_size)
        x = Noise(keys).normal("prior", like)  # the very noise that our samples start from
        yield x
        for timestep in scheduler.timesteps:
            x = scheduler.step(self.network(x, timestep, class_labels=cond).sample, timestep, x).prev_sample
            yield x

    @torch.no_grad()
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        for x in self.walk(keys, cond):  # noqa: B007
            pass
        return x.clamp(-1, 1)

    @torch.no_grad()
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        model = Denoiser(_OnOurTimes(self.network), schedule(), PredictsNoise())
        return self.bounding(model, batch.images, batch.labels, Noise(keys))


class _OnOurTimes(nn.Module):
    """network(x, t, cond) for t in (0, 1]: the peer counts its chain's steps from 0."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        predicted: Tensor = self.network(x, t * CHAIN - 1, class_labels=cond, return_dict=False)[0]
        return predicted


def chain() -> Scheduler:
    """What the peer is trained on: its defaults."""
    return DDPMScheduler(num_train_timesteps=CHAIN)


def schedule() -> Tabulated:
    """The same as a schedule of ours."""
    return Tabulated(chain().betas)
