"""Where a model runs: from hardware and settings to a plan, without side effects.

| DEVICE_MAP | build with CUDA | cards | plan |
| --- | --- | --- | --- |
| cpu, or N_GPU_LAYERS=0 | any | any | the CPU |
| auto | no, or yes | none | the CPU, and a line that says why |
| cuda, cuda:N | no, or yes | none | an error |
| cuda:N | yes | not that one | an error that lists the cards |
| cuda:N | yes | that one | that one: all layers if they fit, else as many as fit |
| auto, cuda | yes | one | that one, in the same way |
| auto, cuda | yes | several | the emptiest if all layers fit on it, else all, split by layers |

If not even one layer fits, the model runs on the CPU with `auto`; otherwise that is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime.common.errors import SetupError
from runtime.engine.cards import Card
from runtime.engine.weights import ModelSizes

# Bytes of a card that CUDA's context, cuBLAS and fragmented pools take. An assumption: the log of
# loading shows what was taken beside the estimate.
RESERVE = 600 * 2**20
_FLOAT = 4


@dataclass(frozen=True)
class Need:
    """What a model needs memory for besides its weights."""

    cells: int  # tokens of the KV cache, all slots together
    value_bytes: float  # of one of its numbers
    call_tokens: int  # most rows of a call
    adapters: int = 0  # bytes of all adapter files


@dataclass(frozen=True)
class Plan:
    """Where a model runs."""

    gpu_layers: int  # on cards, counting the output as one; 0 is the CPU alone
    cards: tuple[int, ...]  # their indices
    nbytes: int  # estimated, on all cards together
    says: str  # the decision in words
    warns: bool = False  # it is less than a user may expect
    cache_bytes: int = 0  # at most, of its KV cache
    prefix_bytes: int = 0  # at most, of prefixes in main memory

    @property
    def main_gpu(self) -> int | None:
        """The card for `Model`; None lets llama.cpp split over all cards."""
        return self.cards[0] if len(self.cards) == 1 else None


def plan(
    device_map: str,
    most_layers: int,
    with_cuda: bool,
    cards: Sequence[Card],
    sizes: ModelSizes,
    need: Need,
) -> Plan:
    """Where a model runs.

    Args:
        most_layers: N_GPU_LAYERS; -1 is no limit.
        with_cuda: the build of llama.cpp has CUDA.
        cards: those it finds, with the memory that is free for this model.

    Raises:
        SetupError: DEVICE_MAP names a card that does not exist or has no room for a layer.
    """
    if device_map == "cpu" or most_layers == 0:
        return Plan(0, (), 0, "on the CPU, as asked")
    chosen = choose_cards(device_map, with_cuda, cards)
    if not chosen:
        return Plan(0, (), 0, why_no_card(with_cuda), warns=with_cuda)
    wanted = sizes.n_layers if most_layers < 0 else min(most_layers, sizes.n_layers)
    best = max(chosen, key=lambda index: cards[index].free)
    on_one = layers_that_fit(wanted, cards[best].free - RESERVE, sizes, need)
    if on_one == wanted or len(chosen) == 1:
        used: tuple[int, ...] = (best,)
        layers = on_one
    else:
        used = tuple(chosen)
        layers = layers_on_several(wanted, [cards[i].free for i in chosen], sizes, need)
    if layers == 0:
        free = ", ".join(f"{cards[i].name} has {_gib(cards[i].free)} free" for i in chosen)
        short = f"no layer fits on a GPU beside its buffers: {free}"
        if device_map != "auto":
            raise SetupError(
                f"DEVICE_MAP={device_map}: {short}. A smaller BATCH_SIZE, KV_CACHE_GB or"
                " PREFILL_TOKENS needs less; DEVICE_MAP=cpu needs none."
            )
        return Plan(0, (), 0, f"on the CPU: {short}", warns=True)
    nbytes = estimate(layers, sizes, need) + RESERVE * len(used)
    names = " and ".join(f"{cards[i].name} ({cards[i].description})" for i in used)
    says = (
        f"{layers} of {sizes.n_layers} layers on {names}, about {_gib(nbytes)} of"
        f" {_gib(sum(cards[i].free for i in used))} free"
    )
    if layers < wanted:
        says += "; more do not fit"
    return Plan(layers, used, nbytes, says, warns=layers < wanted)


def choose_cards(device_map: str, with_cuda: bool, cards: Sequence[Card]) -> list[int]:
    """Indices of the cards that may be used; none with `auto` if there are none.

    Raises:
        SetupError: DEVICE_MAP names a card that does not exist.
    """
    if device_map != "auto" and not cards:
        raise SetupError(
            f"DEVICE_MAP={device_map}: {why_no_card(with_cuda).removeprefix('on the CPU: ')};"
            " DEVICE_MAP=cpu or auto runs on the CPU"
        )
    _, _, number = device_map.partition(":")
    if not number:
        return list(range(len(cards)))
    if int(number) >= len(cards):
        there = ", ".join(f"cuda:{i} ({card.description})" for i, card in enumerate(cards))
        raise SetupError(f"DEVICE_MAP={device_map}: there is no such GPU; there are {there}")
    return [int(number)]


def why_no_card(with_cuda: bool) -> str:
    """Why a model runs on the CPU, in words."""
    if with_cuda:
        return (
            "on the CPU: this llama.cpp has CUDA, but finds no GPU or no driver (nvidia-smi"
            " lists them; CUDA_VISIBLE_DEVICES may hide them)"
        )
    return (
        "on the CPU: this llama.cpp was built without GPU support (docs/building.md says how to"
        " build it with)"
    )


def estimate(layers: int, sizes: ModelSizes, need: Need) -> int:
    """Bytes of GPUs that `layers` layers take: weights, KV cache, adapters, results of a call.

    llama.cpp offloads the output first and then the last layers, each with its part of the KV
    cache. The embeddings stay on the CPU.
    """
    if layers == 0:
        return 0
    blocks = len(sizes.layers)
    first = max(0, blocks - (layers - 1))
    weights = sizes.output + sum(sizes.layers[first:])
    cache = need.cells * need.value_bytes * sum(sizes.cell_values[first:])
    adapters = need.adapters * (blocks - first) / max(1, blocks)
    return int(weights + cache + adapters + need.call_tokens * sizes.row_values * _FLOAT)


def layers_that_fit(wanted: int, room: int, sizes: ModelSizes, need: Need) -> int:
    """The most layers up to `wanted` whose estimate is within `room` bytes."""
    return max(n for n in range(wanted + 1) if n == 0 or estimate(n, sizes, need) <= room)


def layers_on_several(wanted: int, free: Sequence[int], sizes: ModelSizes, need: Need) -> int:
    """The most layers that fit on several cards together.

    Each card holds results of its own, and a layer is not split, so each may waste up to a layer.
    """
    results = need.call_tokens * sizes.row_values * _FLOAT
    largest = max(sizes.layers, default=0)
    room = sum(max(0, memory - RESERVE - results - largest) for memory in free)
    return layers_that_fit(wanted, room, sizes, need)


def less(cards: Sequence[Card], made: Plan) -> list[Card]:
    """The cards after a plan took its memory, which llama.cpp divides by free memory."""
    total = sum(cards[i].free for i in made.cards)
    left = list(cards)
    for i in made.cards:
        left[i] = replace(cards[i], free=cards[i].free - made.nbytes * cards[i].free // total)
    return left


def compare(before: Sequence[Card], after: Sequence[Card], made: Plan) -> tuple[str, bool]:
    """The memory taken and the estimate, in words; and whether it was a fifth more than that.

    What other processes took meanwhile counts, too.
    """
    taken = sum(before[i].free - after[i].free for i in made.cards)
    line = f"{_gib(taken)} of GPU memory taken, {_gib(made.nbytes)} were estimated"
    return line, taken > 1.2 * made.nbytes


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB"
