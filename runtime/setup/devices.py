"""Where a model runs: from what there is and what is asked to a plan. Pure: it asks nothing.

| DEVICE_MAP | build with CUDA | cards | plan |
| --- | --- | --- | --- |
| cpu, or N_GPU_LAYERS=0 | any | any | the CPU |
| auto | no, or yes | none | the CPU, and a line that says why |
| cuda, cuda:N | no, or yes | none | an error |
| cuda:N | yes | no such one | an error that lists those there are |
| cuda:N | yes | that one | that one: all layers if they fit, else as many as fit |
| auto, cuda | yes | one | that one, likewise |
| auto, cuda | yes | several | the emptiest if all layers fit on it, else split over all by layers |

A model of which no layer fits runs on the CPU with `auto`, and is an error otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime.common.errors import SetupError
from runtime.engine.cards import Card
from runtime.engine.weights import ModelSizes

# What CUDA's context, cuBLAS and the fragments of llama.cpp's pools take of a card, in bytes.
# An assumption, checked on no card yet; the log of loading has what was taken beside it.
RESERVE = 600 * 2**20
_FLOAT = 4


@dataclass(frozen=True)
class Need:
    """What a model is to hold beside its weights.

    Attributes:
        cells: tokens in the KV cache, all slots together.
        value_bytes: of a number in it.
        call_tokens: most rows of a call.
        adapters: bytes of the adapters' files together.
    """

    cells: int
    value_bytes: float
    call_tokens: int
    adapters: int = 0


@dataclass(frozen=True)
class Plan:
    """What becomes of a model.

    Attributes:
        gpu_layers: how many layers, the output among them, lie on cards; 0 is the CPU alone.
        cards: indices of the cards.
        nbytes: estimated of all of them together.
        says: the decision in a line.
        warns: it is less than the user may expect.
        cache_bytes: the most bytes of its KV cache.
    """

    gpu_layers: int
    cards: tuple[int, ...]
    nbytes: int
    says: str
    warns: bool = False
    cache_bytes: int = 0

    @property
    def main_gpu(self) -> int | None:
        """As `Model` takes it: None lets llama.cpp split over all cards."""
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
        device_map: auto, cpu, cuda or cuda:N.
        most_layers: N_GPU_LAYERS; -1 is no limit.
        with_cuda: the build of llama.cpp has CUDA.
        cards: what it finds, with the memory that is free for this model.
        sizes: of the model.
        need: beside them.

    Raises:
        SetupError: no such card, or a card was asked for and cannot be used.
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
    """Indices of the cards that may be used; none if DEVICE_MAP leaves it open and there is none.

    Args:
        device_map: auto, cuda or cuda:N.
        with_cuda: the build of llama.cpp has CUDA.
        cards: what it finds.

    Raises:
        SetupError: a card that was asked for is not there.
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
    """The line that says why a model runs on the CPU."""
    if with_cuda:
        return (
            "on the CPU: this llama.cpp has CUDA, but finds no GPU or no driver (nvidia-smi"
            " shows what there is; CUDA_VISIBLE_DEVICES may hide it)"
        )
    return (
        "on the CPU: this llama.cpp was built without GPU support (docs/building.md says how it"
        " gets it)"
    )


def estimate(layers: int, sizes: ModelSizes, need: Need) -> int:
    """Bytes that so many layers take of GPUs: weights, KV cache, adapters, results of a call.

    llama.cpp offloads the output first and then the last layers; each layer's part of the KV
    cache lies with it. The embeddings stay with the CPU.
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
    """The most layers that fit on several cards together; each has results of its own, and a
    layer lies on one, so that up to a layer's worth of each stays empty."""
    results = need.call_tokens * sizes.row_values * _FLOAT
    largest = max(sizes.layers, default=0)
    room = sum(max(0, memory - RESERVE - results - largest) for memory in free)
    return layers_that_fit(wanted, room, sizes, need)


def less(cards: Sequence[Card], made: Plan) -> list[Card]:
    """The cards with what a plan takes gone, shared as llama.cpp does: by free memory."""
    total = sum(cards[i].free for i in made.cards)
    left = list(cards)
    for i in made.cards:
        left[i] = replace(cards[i], free=cards[i].free - made.nbytes * cards[i].free // total)
    return left


def compare(before: Sequence[Card], after: Sequence[Card], made: Plan) -> tuple[str, bool]:
    """What was taken of the cards by llama.cpp's account beside the estimate, in a line; and
    whether it is more than a fifth over it. What others took meanwhile counts, too."""
    taken = sum(before[i].free - after[i].free for i in made.cards)
    line = f"{_gib(taken)} of GPU memory taken, {_gib(made.nbytes)} were estimated"
    return line, taken > 1.2 * made.nbytes


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB"
