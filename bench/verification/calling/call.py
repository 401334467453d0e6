"""A call of a target in a given convention: arguments in the layout that it takes, its result found and turned back."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ...implementations import FloatArray
from . import models
from .arrays import (
    AXES,
    DIMENSIONS,
    FLOAT32,
    LEADING,
    RESULTS,
    NoResultError,
    arranged,
    as_array,
    batch_first,
    in_container,
    number_in,
    stacked,
)
from .attention import SUMS
from .classifiers import IDENTITY, PENALTY, optional_of_classifier
from .construction import construction_values, identities, make_instance
from .convention import CARRIERS, FORWARD_ONLY, SCALARS, Convention
from .graphs import (
    GRADIENTS,
    LOSS_DRIVE,
    SLOTS,
    NoGradientError,
    computed,
    consume,
    forget,
    grad_slot,
    leaf_factory,
    spread,
    unwrapped,
)
from .kept import NamedAttributes, NamedCache, attributes_read, place_of_gradient
from .kernels import DESTINATION
from .methods import applied_parameters, is_static
from .roles import (
    FIXED,
    LOG_LOSS_GRADIENT,
    LOSS_GRADIENT,
    RETURNED,
    TURNED_TARGETS,
    UNKNOWN,
    asked_names,
    class_counts,
    derivative_flags,
    ignored_labels,
    keyword_only_without_default,
    known_parameters,
    output_activations,
    passed_by_name,
    roles_of,
    smoothings,
    training_flags,
)
from .standins import Carrier, Context, Leaf
from .transforms import pulled_back

FORWARD_RESULTS = ("output", "outputs", "out", "probs", "y", "a", "A", "value", "result", "activation")
# The roles that are [B, N].
MATRICES = ("logits", "probs", "log_probs", "grad_output", "targets", LOSS_GRADIENT, LOG_LOSS_GRADIENT)
ARRAYS = (*MATRICES, *SUMS, "labels")  # of all arrays with the batch as their first axis
LEARNING_RATE = 0.125  # for a backward that takes one
Inputs = Mapping[str, Any]


class Call:
    """One target in one convention: ``prepare`` runs everything before the backward and returns the backward."""

    def __init__(self, target: Any, namespace: Mapping[str, Any], convention: Convention) -> None:
        self.target = target
        self.namespace = namespace
        self.convention = convention
        self.found_in = ""  # the attribute that held the gradient; empty if it was returned
        self.forward_result: Any = None
        self.writes_out = False  # whether the target gets an array for its result
        self._owner: Any = None  # of a pair: one object for all calls, like a layer
        self._carriers: dict[int, Carrier] = {}
        self._passed: list[tuple[str, Any, Any]] = []  # role, the value passed, a copy from before

    def overwritten(self) -> tuple[str, ...]:
        """The roles of the inputs that the target has changed since the last ``prepare``."""
        used = self.convention.roles | ({"grad_output"} if self.convention.style == "tensor" else set())
        changed = self._changed() & used - {self.convention.lands_in}
        return tuple(role for role in ARRAYS if role in changed)

    def _changed(self) -> set[str]:
        """The roles of the arrays that are no longer what they were when they were passed."""
        return {role for role, now, before in self._passed if _is_changed(np.asarray(unwrapped(now)), before)}

    def arrivals(self, inputs: Inputs) -> list[Callable[[], object]]:
        """What writes other inputs into the arrays that ``prepare`` made, which the target holds or is about to get."""
        writing: list[partial[None]] = []
        rows = {role: iter(range(len(array))) for role, array in inputs.items()}
        for number, (role, value, _) in enumerate(self._passed):
            if role not in inputs:
                continue
            array = inputs[role]
            if self.convention.is_single:
                row = next(rows[role])
                array = array[row : row + 1]
            array = models.beside_data(role, array, self.convention.roles)
            array = _in_shape(array, value, self.convention.layout)
            writing.append(partial(_write_list if isinstance(value, list) else np.copyto, _destination(value), array))
            self._passed[number] = role, value, array
        # A pass over what has come, or over all where nothing comes, and over memory for a result: the call finds them
        # cached, as a repeated call would.
        passed = [value for role, value, _ in self._passed if role in self.convention.roles]
        found = [writer.args[0] for writer in writing] or passed
        arrays = [array for array in found if isinstance(array, np.ndarray) and array.dtype.kind == "f"]
        return [*writing, *(partial(np.positive, array) for array in arrays)]

    def prepare(self, inputs: Inputs) -> Callable[[], Any]:
        """The backward of the given arrays, as a function without arguments; ``as_rows`` takes what it returns."""
        self._passed, self._carriers = [], {}
        if not self.convention.is_single:
            return self._prepared(self._values(inputs))
        rows = [self._values(_row(inputs, row)) for row in range(len(inputs["logits"]))]
        # An object keeps one forward at a time, so each row's forward runs right before its backward.
        # Each result is copied, because the object may write the next one over it.
        features = inputs["logits"].shape[1]
        of_matrices = self.convention.operation == "jacobian"
        return lambda: stacked(
            [as_array(self._prepared(row)(), features).copy() for row in rows],
            inputs["logits"],
            of_matrices=of_matrices,
        )

    def _values(self, inputs: Inputs) -> dict[str, Any]:
        """The value of each role: a copy in the convention's layout and container."""
        layout, container = self.convention.layout, self.convention.container
        used = self._used()
        ordered = {role: models.beside_data(role, inputs[role], self.convention.roles) for role in (*used, "labels")}
        values: dict[str, Any] = {role: in_container(arranged(ordered[role], layout), container) for role in used}
        labels = ordered["labels"]
        leading = (1,) * (DIMENSIONS[layout] - 2) if layout in LEADING else ()
        labels = labels.reshape((*leading, -1))
        values["labels"] = int(labels[0]) if layout == "vector" else in_container(labels.copy(), container)
        for role in self.convention.roles.intersection(SUMS):
            sums = inputs[role].copy()  # [B] or [B, 1]
            values[role] = in_container(sums.reshape((*leading, *sums.shape)), container)
            used.append(role)
        self._passed += [(role, values[role], np.array(unwrapped(values[role]))) for role in (*used, "labels")]
        values["upstream"] = inputs["upstream"]
        row_upstream = np.full(len(inputs["logits"]), inputs["upstream"], inputs["logits"].dtype)
        values["row_upstream"] = in_container(row_upstream.reshape((*leading, -1)), container)
        axis = AXES.get(layout, -1)
        values |= {"axis": axis, "positive_axis": axis if axis >= 0 else DIMENSIONS.get(layout, 2) - 1}
        constants = construction_values(inputs["logits"])
        constants |= identities(self.convention.roles, inputs["logits"], leading)
        if IDENTITY in constants:
            constants[IDENTITY] = models.beside_data(IDENTITY, constants[IDENTITY], self.convention.roles).copy()
        constants |= {"zeros": arranged(np.zeros_like(inputs["logits"][:1]), layout), PENALTY: inputs.get(PENALTY, 0.0)}
        values |= {
            role: in_container(value, container) if isinstance(value, np.ndarray) else value
            for role, value in constants.items()
        }
        values["learning_rate"] = LEARNING_RATE
        values["context"] = self._context()
        if TURNED_TARGETS in self.convention.roles:  # a view: what is written into the targets is in it as well
            values[TURNED_TARGETS] = values["targets"].T
        values |= {"training": True, "lengths": [len(inputs["logits"])]}
        mask = arranged(np.ones(inputs["logits"].shape, dtype=bool), layout)
        row_mask = np.ones(len(inputs["logits"]), dtype=bool).reshape((*leading, -1))
        masks = {"mask": mask, "row_mask": row_mask, "no_mask": np.logical_not(mask)}
        values |= {role: in_container(each, container) for role, each in masks.items()}
        if models.PADDED in self.convention.roles:
            steep, shift = models.passing(self.target, inputs["logits"].dtype)
            made = models.network_values(inputs["logits"], shift, steep)
            made[models.PADDED] = models.beside_data(models.PADDED, made[models.PADDED], self.convention.roles)
            layers = self.convention.roles.intersection(models.PARAMETERS)
            values |= {
                role: arranged(array, layout) for role, array in made.items() if layers or role in self.convention.roles
            }
            values |= {role: models.parameters_of(values, role) for role in layers}
        if DESTINATION in self.convention.roles:
            values[DESTINATION] = in_container(arranged(np.zeros_like(inputs["logits"]), layout), container)
        if "packed" in self.convention.roles:
            incoming = "logits" if self.convention.operation != "cross_entropy" else "probs"
            values["packed"] = [values[incoming], values["targets"]]
        return values

    def _used(self) -> list[str]:
        """The roles of arrays that this convention may need."""
        packed = {"probs", "targets"} if "packed" in self.convention.roles else set()
        roles = self.convention.roles | {"logits", "grad_output"} | packed
        return [role for role in MATRICES if role in roles]

    def _context(self) -> Any:
        """The module's own class of contexts, made without arguments, else ours."""
        for name, value in self.namespace.items():
            if name.lower() in ("context", "ctx") and inspect.isclass(value):
                try:
                    return value()
                except TypeError:
                    break
        return Context()

    def _prepared(self, values: dict[str, Any]) -> Callable[[], Any]:
        styles = {
            "function": self._function,
            "method": self._method,
            "pair": self._pair,
            "closure": self._closure,
            "node": self._node,
            "tensor": self._tensor,
            "transform": self._transform,
            FORWARD_ONLY: self._forward_only,
        }
        return styles[self.convention.style](values)

    def _function(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The call of a function; its forward, if any, makes its cache."""
        if self.convention.forward:
            forward = self.namespace[self.convention.forward]
            self._take_returned(forward(*self._given(self.convention.forward_arguments, values)), values)
        elif self.convention.cached:
            values |= {"cache": NamedCache(values), "operation": NamedAttributes(values)}
        return self._alone(self.target, values)

    def _take_returned(self, result: Any, values: dict[str, Any]) -> None:
        """Take in what a forward returned, for a backward to which it is handed; a model's probabilities, too.

        Of two things the second one is the cache; else all that was returned is.
        """
        returned = result if isinstance(result, tuple) else (result,)
        whole = returned[0] if len(returned) == 1 else result
        self.forward_result, values["cache"] = returned if len(returned) == 2 else (whole, whole)
        values |= dict(zip(RETURNED, returned, strict=False))
        shape = getattr(values.get("probs"), "shape", None)
        of_model = [item for item in returned if getattr(item, "shape", ()) == shape]
        if self.convention.weights and of_model:
            values["probs"] = of_model[0]

    def _alone(self, function: Callable[..., Any], values: dict[str, Any]) -> Callable[[], Any]:
        """The call of a function that needs no object; for each index if it takes one, [N, N] or [N]."""
        roles, wrap = self.convention.arguments, self._wrap(in_forward=False)
        function = functools.partial(function, **flags) if (flags := derivative_flags(function)) else function
        if self.convention.weights and self.convention.style == "function":
            return functools.partial(self._of_network, self._bound(function, roles, values, wrap), values)
        if lands_in := self.convention.lands_in:
            return self._landing(self._bound(function, roles, values, wrap), values[lands_in])
        if "index" not in roles:
            return self._bound(function, roles, values, wrap)
        by_index = [values | {"index": index} for index in range(values["features"])]
        return lambda: np.stack([np.asarray(self._bound(function, roles, each, wrap)()) for each in by_index])

    def _of_network(self, function: Callable[[], Any], values: dict[str, Any]) -> FloatArray:
        """The gradient [B, N] of the last weights of a network that is a function, in their layout."""
        kind = models.TURNED if self.convention.layout in ("columns", "column") else models.TRAINED
        size = values["batch"], values["features"]
        returned = function()
        if self.convention.of_bias:
            return models.bias_among(returned, None, kind, *size)
        if not self.convention.descends:
            return models.gradient_among(returned, kind, *size)
        updated = values[self.convention.lands_in] if self.convention.lands_in else returned
        after = models.gradient_among(updated, kind, *size)
        return models.descended(self._logits(values), after, LEARNING_RATE)

    def _landing(self, function: Callable[[], Any], destination: Any) -> Callable[[], Any]:
        """The call of a function that writes its result into an array that it is given."""
        self.writes_out = self.convention.lands_in == DESTINATION

        def call() -> Any:
            function()
            return destination

        return call

    def _transform(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward that JAX keeps of a forward."""
        roles = self.convention.forward_arguments
        place = next(place for place, role in enumerate(roles) if role in ("logits", "probs"))
        incoming = values[self.convention.arguments[0]]
        self.forward_result, backward = pulled_back(self.target, self._given(roles, values), place, incoming)
        return backward

    def _method(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The call of a method of an object."""
        owner = self._made(values, self.convention.backward)
        return self._with_result(owner, self._alone(getattr(owner, self.convention.backward), values), values)

    def _with_result(self, owner: Any, backward: Callable[[], Any], values: dict[str, Any]) -> Callable[[], Any]:
        """The call of a backward of an object: what it returns, or what it leaves in an attribute."""
        if self.convention.weights in (models.TRAINED, models.TURNED):
            return functools.partial(self._trained, owner, backward, self._logits(values))

        def call() -> Any:
            before = dict(getattr(owner, "__dict__", {}))
            returned = backward()
            return self._result(returned, owner, before)

        return call

    def _trained(self, owner: Any, backward: Callable[[], Any], logits: FloatArray) -> FloatArray:
        """The gradient [B, N] of a model's last weights after a call of its backward."""
        returned = backward()
        if self.convention.of_bias:
            return models.bias_among(returned, owner, self.convention.weights, *logits.shape)
        if self.convention.descends:
            return models.subtracted(owner, self.convention.weights, logits, LEARNING_RATE)
        return models.gradient_of(owner, self.convention.weights, returned, logits)

    def _forward_only(self, values: dict[str, Any]) -> Callable[[], Any]:
        owner = self._made(values, self.convention.forward) if self.convention.forward else self.target
        forward = getattr(owner, self.convention.forward) if self.convention.forward else owner
        before = dict(getattr(owner, "__dict__", {}))
        try:
            result = self._bound(forward, self.convention.forward_arguments, values)()
        except (TypeError, AttributeError):
            result = forward(self._leaf_maker()(values["logits"]))
        if result is None and self.convention.forward:
            left = {name: value for name, value in owner.__dict__.items() if value is not before.get(name)}
            result = next((left[name] for name in FORWARD_RESULTS if name in left), None)
        return lambda: result

    def _closure(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward that a forward returned beside its result."""
        forward = self.target
        if self.convention.forward:
            forward = getattr(self._made(values, self.convention.forward), self.convention.forward)
        returned = self._bound(forward, self.convention.forward_arguments, values)()
        if isinstance(returned, tuple) and len(returned) == 2 and callable(returned[1]):
            self.forward_result, backward = returned
        elif callable(returned):
            backward = returned
        else:
            raise NoResultError("has a forward that returns no backward")
        return lambda: backward(values[self.convention.arguments[0]])

    def _made(self, values: dict[str, Any], *methods: str) -> Any:
        """The object that the methods belong to; the class itself if they are static."""
        if self._owner is None:
            self._owner = self.target
            if inspect.isclass(self.target) and not all(is_static(self.target, method) for method in methods):
                self._owner = make_instance(self.target, self.convention.construct, values)
        if self.convention.weights:
            models.equip(self._owner, self.convention.weights, self._logits(values), LEARNING_RATE)
        return self._owner

    def _logits(self, values: dict[str, Any]) -> FloatArray:
        """The logits [B, N] of values that are in the convention's layout."""
        logits: FloatArray = values["logits"]
        if self.convention.layout in ("columns", "column"):
            return logits.T
        return logits.reshape(-1, logits.shape[-1])

    def _pair(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward of an object after its forward."""
        owner = self._made(values, self.convention.forward, self.convention.backward)
        forward = getattr(owner, self.convention.forward)
        if not self.convention.forward_arguments:
            _lay_down(owner, forward, values["logits"], "logits")
        result = self._bound(forward, self.convention.forward_arguments, values, self._wrap(in_forward=True))()
        if "context" in set(self.convention.arguments) - set(self.convention.forward_arguments):
            self._set_up_context(owner, values, result)
        self._take_returned(result, values)
        if self.convention.between:
            getattr(owner, self.convention.between)(values[self.convention.told])
        if "operation" in self.convention.arguments:  # a graph's node: its inputs, its output
            values["operation"] = NamedAttributes(values)
        backward = getattr(owner, self.convention.backward)
        if isinstance(self.forward_result, Carrier) and not self.convention.arguments:
            for name in SLOTS:
                setattr(self.forward_result, name, values["grad_output"])
        if not {*self.convention.arguments, *self.convention.forward_arguments}:
            _lay_down(owner, backward, values["grad_output"], "grad_output")
        bound = self._bound(backward, self.convention.arguments, values, self._wrap(in_forward=False))
        return self._with_result(owner, bound, values)

    def _set_up_context(self, owner: Any, values: dict[str, Any], result: Any) -> None:
        """Fill the context of an autograd function whose forward does not take it, as PyTorch does."""
        if callable(set_up := getattr(owner, "setup_context", None)):
            wrap = self._wrap(in_forward=True) or _as_it_is
            inputs = tuple(wrap(value) for value in self._given(self.convention.forward_arguments, values))
            set_up(values["context"], inputs, result)

    def _node(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward of a graph's node, made from its parents."""
        make = self._leaf_maker()
        parents = [make(values[role]) for role in self.convention.construct]
        node = computed(self.target(*parents))
        self.forward_result = next((getattr(node, name) for name in ("data", "value") if hasattr(node, name)), None)
        incoming = values["upstream" if "targets" in self.convention.roles else "grad_output"]
        for parent in parents:
            forget(parent)
        consume(node, incoming)
        slot = grad_slot(node) or grad_slot(parents[0])
        roles = self.convention.arguments
        if slot and roles in ((), ("parents",)):  # then the node itself holds the incoming gradient
            setattr(node, slot, incoming)
        given = parents if roles == ("parents",) else self._given(roles, values)
        sources = zip(parents, self.convention.construct, strict=True)
        source = next(parent for parent, role in sources if role in ("logits", "probs"))

        def call() -> Any:
            returned = getattr(node, self.convention.backward)(*given)
            if returned is not None and not self.convention.result:
                return returned
            kept = getattr(node, GRADIENTS, None)
            if isinstance(kept, dict) and source in kept:  # a node may keep the gradients of its parents itself
                self.found_in = GRADIENTS
                return kept[source]
            self.found_in = self.convention.result or grad_slot(source)
            return getattr(source, self.found_in)

        return call

    def _tensor(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward that a tensor keeps from when it was computed."""
        if self.convention.wrapping == SCALARS:
            return self._of_numbers(values)
        in_torch = self.convention.container in ("torch", FLOAT32)
        make = _as_it_is if in_torch else self._leaf_maker()
        given = values[self.convention.leaf]
        leaf = given.requires_grad_() if in_torch else make(given)
        out = self._of_tensor(leaf, values)
        self.forward_result = out
        drive = self.convention.arguments[0]

        def call() -> Any:
            try:
                spread(out, values["grad_output"], drive, make)
            except NoGradientError as error:
                raise NoResultError(f"has a forward that gives {error}") from None
            self.found_in = self.convention.result or grad_slot(leaf) or "grad"
            gradient = getattr(leaf, self.found_in, None)
            if gradient is None or (values["features"] > 1 and not np.any(unwrapped(gradient))):
                raise NoResultError("left no gradient at its input")
            return gradient

        return call

    def _of_numbers(self, values: dict[str, Any]) -> Callable[[], Any]:
        """The backward of a function of a list of numbers, each a node of the file's graph."""
        make = self.namespace[self.convention.tensor]
        leaves = [make(float(number)) for number in values["logits"]]
        out = self.target(leaves, *self._given(self.convention.forward_arguments, values))
        self.found_in = grad_slot(leaves[0]) or "grad"

        def call() -> Any:
            root = out
            if self.convention.arguments != LOSS_DRIVE:
                root = sum(
                    (node * float(part) for node, part in zip(out, values["grad_output"], strict=True)), make(0.0)
                )
            root.backward()
            return np.array([getattr(leaf, self.found_in) for leaf in leaves], values["logits"].dtype)

        return call

    def _of_tensor(self, leaf: Any, values: dict[str, Any]) -> Any:
        """What the target makes of a tensor: a function, a tensor's own method, or an object that is called with it."""
        name = self.convention.forward
        wrap = self._leaf_maker() if self.convention.wrapping else _as_it_is
        given = [wrap(value) for value in self._given(self.convention.forward_arguments, values)]
        if not name:
            return self._with_axis(self.target, [leaf, *given], values)
        if inspect.isclass(self.target) and isinstance(leaf, self.target):
            return self._with_axis(getattr(leaf, name), given, values)
        static = inspect.isclass(self.target) and is_static(self.target, name)
        owner = self.target if static and name != "__call__" else self._made(values)
        if owner is self.target and inspect.isclass(owner) and not (static and name != "__call__"):
            owner = make_instance(owner, self.convention.construct, values)
        return self._with_axis(getattr(owner, name), [leaf, *given], values, applied_parameters(owner, name))

    def _with_axis(
        self, function: Callable[..., Any], given: list[Any], values: dict[str, Any], names: Sequence[str] = ()
    ) -> Any:
        """The call of a function of tensors, whose other parameters are an axis, a learning rate or a context.

        ``names``: of its parameters, where Python does not know them.
        """
        axis = self._axis(function)
        asked = [name for name in names or asked_names(function) if name not in axis]
        fixed = [values[roles_of(name)[0]] for name in asked[len(given) :] if roles_of(name)[0] in FIXED]
        return function(*given, *fixed, **axis)

    def _axis(self, function: Callable[..., Any]) -> dict[str, int]:
        """The axis as a named argument, if the function has a parameter for it."""
        names = {parameter.name: parameter for parameter in known_parameters(function)}
        axis = AXES.get(self.convention.layout)
        for name in ("axis", "dim"):
            # For rows a default is kept: it is part of what is checked.
            if name in names and (axis is not None or names[name].default in (None, names[name].empty)):
                return {name: -1 if axis is None else axis}
        return {}

    def _bound(
        self,
        function: Callable[..., Any],
        roles: tuple[str, ...],
        values: dict[str, Any],
        wrap: Callable[[Any], Any] | None = None,
    ) -> Callable[[], Any]:
        """A call of the function with the values of its roles, ``wrap`` around each array; some get their name, too."""
        named: dict[str, Any] = self._axis(function) if not {"axis", "positive_axis"} & set(roles) else {}
        named |= training_flags(function) | ignored_labels(function) | smoothings(function)
        if {IDENTITY, models.PADDED} & self.convention.roles:
            named |= {name: values[role] for name, role in optional_of_classifier(function).items()}
            named |= output_activations(function)
        named |= dict.fromkeys(class_counts(function), values["features"])
        if "out" in keyword_only_without_default(function):
            named["out"] = np.empty_like(values["logits"])
            self.writes_out = True
        wrapped = (*MATRICES, "labels") if self.convention.wrapping == "tensors and labels" else MATRICES
        names, by_name = asked_names(function), passed_by_name(function)
        if not by_name or len(names) != len(roles):
            names, by_name = [""] * len(roles), set()
        plain = [(role, name) for role, name in zip(roles, names, strict=True) if name not in by_name]
        called = [(role, name) for role, name in zip(roles, names, strict=True) if name in by_name]

        def given(role: str) -> Any:
            # At the call, not before it: a class of tensors may copy the array, into which other numbers come by then.
            return wrap(values[role]) if wrap and role in wrapped else values[role]

        return lambda: function(
            *(given(role) for role, _ in plain), **{name: given(role) for role, name in called}, **named
        )

    @staticmethod
    def _given(roles: tuple[str, ...], values: dict[str, Any]) -> list[Any]:
        return [values[role] for role in roles]

    def _wrap(self, *, in_forward: bool) -> Callable[[Any], Any] | None:
        """What is put around each array before it is passed; None if nothing is."""
        wrapping = self.convention.wrapping
        if wrapping == CARRIERS:
            return self._carrying
        if wrapping == "tuples":
            return _in_tuple
        everywhere = wrapping in ("tensors", "tensors and labels")
        return self._leaf_maker() if everywhere or (wrapping and in_forward) else None

    def _carrying(self, array: Any) -> "Carrier":
        """The array as one that takes attributes; each is one for all calls, as what is left in it is looked for."""
        return self._carriers.setdefault(id(array), array.view(Carrier))

    def _leaf_maker(self) -> Callable[[Any], Any]:
        """What makes a graph's input from an array: the target's class, a base, a class of its module, or ``Leaf``."""
        if self.convention.tensor:
            return leaf_factory(self.namespace[self.convention.tensor]) or Leaf
        classes = [base for base in getattr(self.target, "__mro__", ()) if base is not object]
        if self.convention.style == "node":
            classes = classes[:0:-1]  # the base of all nodes first, never the class itself
        classes += [value for value in self.namespace.values() if inspect.isclass(value) and value not in classes]
        return next(filter(None, map(leaf_factory, classes)), Leaf)

    def _result(self, returned: Any, owner: Any, before: dict[str, Any]) -> Any:
        """What the backward returned, or the array that it left in an attribute of its object."""
        if self.convention.result:
            self.found_in = self.convention.result
            if not hasattr(owner, self.found_in):
                raise NoResultError(f"there is no attribute {self.found_in!r} after {self.convention.backward}")
            return getattr(owner, self.found_in)
        if returned is not None:
            return returned
        after = {name: value for name, value in getattr(owner, "__dict__", {}).items() if value is not before.get(name)}
        names = [name for name in RESULTS if name in after] or [
            name for name, value in after.items() if isinstance(value, np.ndarray | list)
        ]
        names = names or [name for name in RESULTS if isinstance(before.get(name), np.ndarray)]
        if not names and (left := [array for array in self._carriers.values() if grad_slot(array)]):
            self.found_in = grad_slot(left[0])
            return np.asarray(getattr(left[0], self.found_in))
        if not names:
            raise NoResultError(
                f"{self.convention.backward} returned None and left no array in an attribute of its object"
            )
        self.found_in = names[0]
        return getattr(owner, self.found_in)

    def as_rows(self, result: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """A backward's result as an array [B, N], if its shape allows that; it may be the target's own array.

        Raises:
            NoResultError: the result is not an array of numbers.
        """
        if self.convention.style in ("function", "method"):
            if self.forward_result is None:
                self.forward_result = number_in(result)
            result = self._named_among(result)
        of_input = self.convention.overwrites and not self.convention.weights
        is_still = of_input and self.convention.lands_in not in self._changed()
        if is_still and not (self.convention.descends and shape[1] == 1):  # of one class, the gradient is 0
            raise NoResultError("returned None and changed none of its arguments")
        array = as_array(self._of_weights(result), shape[0] * shape[1])
        if self.convention.descends and not self.convention.weights:
            array = self._subtracted(array)
        if self.convention.layout == "columns" and array.ndim == 2 and models.PADDED not in self.convention.roles:
            return array.T
        if self.convention.layout == "columns" and self.convention.operation == "jacobian":
            return batch_first(array, shape)
        if self.convention.layout in DIMENSIONS and self.convention.operation == "jacobian":
            matrices = (*shape, shape[1])
            return array.reshape(matrices) if array.size == math.prod(matrices) else array
        if self.convention.layout in DIMENSIONS and array.size == shape[0] * shape[1]:
            return array.reshape(shape)
        return array

    def _named_among(self, result: Any) -> Any:
        """Of several results, such as probabilities and a gradient, the one that the code calls a gradient, if any."""
        function = getattr(self.target, self.convention.backward, self.target)
        place = place_of_gradient(function) if isinstance(result, tuple) and len(result) > 1 else None
        return result if place is None or place >= len(result) else result[place]

    def _of_weights(self, result: Any) -> Any:
        """Of the gradients of a classifier's data, weights and bias, which come in the order of these, the weights'."""
        given = [role for role in self.convention.arguments if role in (IDENTITY, "logits", "zeros")]
        if IDENTITY not in given or not isinstance(result, tuple) or len(result) != len(given):
            return result
        is_of_gradients = all(np.ndim(unwrapped(value)) for value in result)  # no loss is there
        return result[given.index("logits")] if is_of_gradients else result

    def _subtracted(self, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The gradient that a step of training went down: what it subtracted from the weights, over the rate."""
        before = next(np.asarray(value) for role, _, value in self._passed if role == "logits")
        if weights.shape != before.shape:
            raise NoResultError(f"returned shape {weights.shape}, and its weights have shape {before.shape}")
        gradient: npt.NDArray[Any] = (before - weights) / LEARNING_RATE
        return gradient


def _lay_down(owner: Any, method: Callable[..., Any], value: Any, role: str) -> None:
    """Write an array into the attributes that a method without arguments reads, if their names say its role."""
    for name in attributes_read(method):
        known = roles_of(name)
        if known[0] == role and known != UNKNOWN and not callable(getattr(owner, name, None)):
            setattr(owner, name, value)


def _is_changed(now: npt.NDArray[Any], before: npt.NDArray[Any]) -> bool:
    """Whether an array that was passed is no longer what it was; it may be of float32, made from float64."""
    return not np.array_equal(now, np.asarray(before).astype(now.dtype), equal_nan=now.dtype.kind == "f")


def _as_it_is(array: Any) -> Any:
    """The array: PyTorch's tensors are those of the graph already."""
    return array


def _in_tuple(array: Any) -> tuple[Any]:
    return (array,)


def _destination(value: Any) -> Any:
    return value if isinstance(value, list) else unwrapped(value)


def _in_shape(array: FloatArray, value: Any, layout: str) -> FloatArray:
    """A view of an array [B, N], or of labels [B], in the shape of the value that a target gets for it."""
    if layout in ("columns", "column") and array.ndim == 2:
        return array.T
    return array if isinstance(value, list) and layout == "rows" else array.reshape(np.shape(_destination(value)))


def _write_list(values: list[Any], array: FloatArray) -> None:
    """Write an array into nested lists of its shape."""
    if array.ndim == 1:
        values[:] = array.tolist()
        return
    for inner, part in zip(values, array, strict=True):
        _write_list(inner, part)


def _row(inputs: Inputs, row: int) -> dict[str, Any]:
    """One row of the inputs as a batch of one."""
    return {name: value[row : row + 1] if name in ARRAYS else value for name, value in inputs.items()}
