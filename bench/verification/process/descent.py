"""Whether what a whole network gives as gradients, or goes down, is the derivative of its loss: central differences."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...implementations import FloatArray
from ..calling.models import arrays_in
from ..calling.network import Network
from ..calling.networks import networks
from ..calling.parts import Path, floats_in
from ..calling.runs import SEED
from .slopes import AGREES, DIRECTIONS, STEP

NOISE = 1e-9  # of a slope of a loss of about 1: its rounding, over the step
LONGEST = 10.0  # of a direction, in steps: farther away, one of thousands of ReLUs is beyond its kink
LEAST_SLOPE = 1e-6  # of what the loss depends on
LARGE = 1e4  # weights that are to make large logits
CLEARLY = 1e-5  # of its terms: what is farther from the slope is wrong, and not inexact
SMALL = 0.1  # weights that are drawn anew: all of an array are smaller
LONGEST_S = 6.0  # of all ways to call it
_OF_GRADIENTS = ("grads", "gradients", "grad")  # a dict of these
Arrays = dict[Path, FloatArray]


@dataclass(frozen=True)
class Descent:
    """A network whose gradients are right: how it was called, and of how many arrays; nothing if none is known.

    ``overflows``: whether its loss is no number where its weights are large. ``wrong``: the parameters whose gradients
    are no derivatives of the loss, while those of the others are; ``gives_loss``: that loss is returned with them.
    ``ends_in_loss``: cross-entropy is its own end, and was not put behind it.
    """

    called_as: str = ""
    parameters: int = 0
    overflows: bool = False
    wrong: tuple[str, ...] = ()
    gives_loss: bool = False
    ends_in_loss: bool = True


@dataclass(frozen=True)
class _Slope:
    """The derivative of the loss with respect to a parameter, along some directions [D, ...]."""

    directions: FloatArray
    slopes: FloatArray  # [D]

    def shows(self, gradient: FloatArray, share: float, within: float = AGREES) -> bool:
        """Whether an array is this share of the gradient, up to ``within`` of its terms."""
        apart = np.abs(self._along(gradient) - share * self.slopes)
        return bool((apart <= within * self._size_of(gradient) + NOISE * share).all())

    def is_penalised(self, gradient: FloatArray, share: float, parameter: FloatArray) -> bool:
        """Whether an array is this share of the gradient, and a multiple of the parameter itself, as of its square."""
        beside, of_itself = self._along(gradient) - share * self.slopes, self._along(parameter)
        multiple = float(beside @ of_itself) / max(float(of_itself @ of_itself), NOISE)
        apart = np.abs(beside - multiple * of_itself)
        return bool((apart <= AGREES * self._size_of(gradient) + NOISE * share).all())

    def share_of(self, gradient: FloatArray) -> float:
        """Which share of the gradient an array is, if it is one."""
        return float(self._along(gradient) @ self.slopes / (self.slopes @ self.slopes))

    def _along(self, array: FloatArray) -> FloatArray:
        """The sums of an array's elements times those of each direction, [D]."""
        along: FloatArray = (self.directions * array).reshape(DIRECTIONS, -1).sum(axis=1)
        return along

    def _size_of(self, array: FloatArray) -> float:
        """The larger one of the sums of the absolute terms."""
        return float(np.abs(self.directions * array).reshape(DIRECTIONS, -1).sum(axis=1).max())


def descent(target: Any, namespace: dict[str, Any]) -> Descent:
    """The first way to call a target as a whole network in which all its gradients are right."""
    ends_s = time.monotonic() + LONGEST_S
    best, step_name = Descent(), ""
    with _seeded():
        for network in networks(target, namespace):
            if time.monotonic() > ends_s or (best.called_as and network.step_name != step_name):
                break  # another step may be a part of that one, and right
            step_name = network.step_name
            with _as_it_was(network.root), contextlib.suppress(Exception):  # whatever goes wrong, it is not called so
                found = _judged(network)
                if found.parameters:
                    return replace(found, overflows=_overflows(network))
                best = best if best.called_as else found
    return best


@contextlib.contextmanager
def _as_it_was(root: Any) -> Iterator[None]:
    """A block after which the arrays are there that were there before: a module's are its author's own."""
    before = {path: slot.array for path, slot in floats_in(root).items()}
    try:
        yield
    finally:
        for path, slot in floats_in(root).items():
            if path in before:
                slot.fill(before[path])


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """A block in which weights that are drawn are the same each time; NumPy's own state is as before after it."""
    state = np.random.get_state()  # noqa: NPY002 - what networks draw from
    np.random.seed(SEED)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _judged(network: Network) -> Descent:
    """What is found of a network; nothing if its gradients do not agree with the loss, and nothing says why."""
    trained: Arrays = {}
    if network.begins_at_zero:
        network.step()
        trained = {path: slot.array.copy() for path, slot in floats_in(network.root).items()}
    before = _set_up(network)
    slopes = dict(_slopes(network, before))
    if not any(before[path].ndim == 2 for path in slopes):
        return Descent()
    if network.is_told_slopes and len(_matrices(before, slopes)) < 2:  # a layer is no network
        return Descent()
    _restore(network, before)
    returned = None if network.begins_at_zero else network.step()
    after = trained or {path: slot.array.copy() for path, slot in floats_in(network.root).items()}
    _restore(network, before)
    moved = {path: before[path] - after[path] for path in slopes if path in after and not _is_same(before, after, path)}
    if moved and len(moved) < len(slopes):
        return Descent()
    beside = [array for _, array in arrays_in(returned, "")]
    beside += [array for path, array in after.items() if path not in slopes]
    claims = {
        path: [moved[path]] if moved else [_shaped(each, before[path]) for each in beside if _fits(each, before[path])]
        for path in slopes
    }
    found = Descent(network.called_as, gives_loss=network.gives_loss, ends_in_loss=not network.is_told_slopes)
    if _are_gradients(slopes, claims):
        return replace(found, parameters=len(slopes))
    wrong = () if moved else _wrong_by_name(network, _named(network, returned, before, after), before, slopes)
    return replace(found, wrong=wrong) if wrong else Descent()


def _named(network: Network, returned: Any, before: Arrays, after: Arrays) -> dict[Path, FloatArray]:
    """The gradients that are known by their names, by the paths of their parameters: returned, or left beside these."""
    values = returned if isinstance(returned, tuple) else (returned,)
    given = dict(zip(network.returns, values, strict=True)) if len(network.returns) == len(values) else {}
    named = {name: array for key, value in given.items() for name, array in arrays_in(value, key)}
    found = {}
    for path in before:
        name = str(path[-1])
        forms = (f"d{name}", f"d_{name}", f"grad_{name}", f"{name}_grad", f"{name}_gradient")
        left = [(*path[:-1], form) for form in forms] + [(*path[:-2], form, *path[-1:]) for form in _OF_GRADIENTS]
        claims = [named[form] for form in (*forms, name) if form in named]
        claims += [after[each] for each in left if each in after and not _is_same(before, after, each)]
        if claims and (claims[0].size == 1 or _fits(claims[0], before[path])):
            found[path] = _shaped(claims[0], before[path])
    return found


def _wrong_by_name(
    network: Network, claims: Mapping[Path, FloatArray], before: Arrays, slopes: Mapping[Path, _Slope]
) -> tuple[str, ...]:
    """The parameters whose gradient, known by its name, is clearly wrong; none where that may mean nothing.

    It says something where the gradient of another matrix is right, and no element is where elements are clipped.
    """
    if not slopes.keys() <= claims.keys() or any(_are_clipped(claims[path]) for path in slopes):
        return ()
    matrices = _matrices(before, slopes)
    shares = [1.0] if network.gives_loss else [slopes[path].share_of(claims[path]) for path in matrices]
    right = {
        share: [path for path, slope in slopes.items() if slope.shows(claims[path], share)]
        for share in shares
        if share > 0.0
    }
    best = max(right, key=lambda share: len(right[share]), default=0.0)
    said = set(right.get(best, ())) if network.gives_loss else set(right.get(best, ())) & set(matrices)
    others = [path for path in slopes if path not in right.get(best, ())]
    if not network.gives_loss and any(_may_be_meant(slopes[path], claims[path], best, before[path]) for path in others):
        return ()
    is_clear = any(not slope.shows(claims[path], best, CLEARLY) for path, slope in slopes.items())
    return tuple(map(_in_words, others)) if said and is_clear else ()


def _matrices(arrays: Arrays, paths: Iterable[Path]) -> list[Path]:
    """The arrays that are weights of a layer, by their shapes: a bias is a vector, or has one row or column."""
    return [path for path in paths if arrays[path].ndim == 2 and min(arrays[path].shape) > 1]


def _may_be_meant(slope: _Slope, claim: FloatArray, share: float, parameter: FloatArray) -> bool:
    """Whether a gradient may be what its author wants, though it is not the cross-entropy's like the others.

    It has a penalty, which the loss may have too; its length is limited; or it is 0, as of what is not to be trained.
    """
    own_share = slope.share_of(claim)
    is_shortened = own_share > 0.0 and slope.shows(claim, own_share)
    return is_shortened or not claim.any() or slope.is_penalised(claim, share, parameter)


def _in_words(path: Path) -> str:
    """A path as code has it, such as ``layers[0].W``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _are_clipped(gradient: FloatArray) -> bool:
    """Whether several elements are as large as the largest one, where they are not all one number."""
    size = np.abs(gradient)
    return bool(np.sum(size < size.max(initial=0.0)) > 0 and np.sum(size == size.max()) > 1)


def _set_up(network: Network) -> Arrays:
    """The arrays of a network by their paths: in double precision, and of a size at which all have a gradient.

    Where all weights are zero no gradient reaches the first of several layers, and next to zero ReLU has its kink.
    """
    rng = np.random.default_rng(SEED)
    for slot in floats_in(network.root).values():
        array = slot.array.astype(np.float64)
        if network.begins_at_zero:
            array = np.zeros_like(array)
        elif array.ndim == 2 and min(array.shape) > 1 and np.abs(array).max() < SMALL and not slot.is_beside:
            array = SMALL * rng.standard_normal(array.shape)
        slot.fill(array)
    return {path: slot.array.copy() for path, slot in floats_in(network.root).items()}


def _overflows(network: Network) -> bool:
    """Whether the loss of a network with large weights is no number: exponentials that are infinite were divided."""
    rng = np.random.default_rng(SEED)
    for slot in floats_in(network.root).values():
        if slot.array.ndim == 2 and not slot.is_beside:
            slot.fill(LARGE * rng.standard_normal(slot.array.shape))
    with contextlib.suppress(Exception):
        return bool(np.isnan(network.loss()))
    return False


def _restore(network: Network, before: Arrays) -> None:
    for path, slot in floats_in(network.root).items():
        if path in before:
            slot.fill(before[path].copy())


def _slopes(network: Network, before: Arrays) -> Iterator[tuple[Path, _Slope]]:
    """The slopes of the loss by all that it depends on; none if it is another one each time."""
    here = network.loss()
    _restore(network, before)
    if network.loss() != here:
        return
    rng = np.random.default_rng(SEED)
    for path, array in before.items():
        directions = rng.standard_normal((DIRECTIONS, *array.shape)) * min(1.0, LONGEST / np.sqrt(array.size))
        found = np.array([_slope(network, before, path, direction) for direction in directions])
        if np.abs(found).max() > LEAST_SLOPE:
            yield path, _Slope(directions, found)


def _slope(network: Network, before: Arrays, path: Path, direction: FloatArray) -> float:
    losses = []
    for sign in (1.0, -1.0):
        _restore(network, {**before, path: before[path] + sign * STEP * direction})
        losses.append(network.loss())
    return (losses[0] - losses[1]) / (2.0 * STEP)


def _is_same(before: Arrays, after: Arrays, path: Path) -> bool:
    """Whether an array is as it was; one of another shape is another array."""
    if path not in before:
        return False
    return before[path].shape != after[path].shape or bool(np.array_equal(before[path], after[path]))


def _fits(array: Any, parameter: FloatArray) -> bool:
    """Whether an array may be the gradient of a parameter, by its shape; of a bias, axes of length 1 do not count."""
    is_shaped: bool = np.squeeze(array).shape == np.squeeze(parameter).shape
    return is_shaped and array.dtype.kind == "f"


def _shaped(array: Any, parameter: FloatArray) -> FloatArray:
    """An array in the shape of its parameter; a single number stands for each element, as where it is subtracted."""
    shaped: FloatArray = np.broadcast_to(array, parameter.shape) if array.size == 1 else array.reshape(parameter.shape)
    return shaped.astype(np.float64)


def _are_gradients(slopes: Mapping[Path, _Slope], claims: Mapping[Path, Sequence[FloatArray]]) -> bool:
    """Whether among the claims for each parameter is its gradient, all of them times one positive number.

    That number is the learning rate, or the batch where the loss is a sum.
    """
    steepest = max(slopes, key=lambda path: float(np.abs(slopes[path].slopes).max()))
    for claim in claims[steepest]:
        share = slopes[steepest].share_of(claim)
        if share > 0.0 and all(any(slopes[path].shows(each, share) for each in claims[path]) for path in slopes):
            return True
    return False
