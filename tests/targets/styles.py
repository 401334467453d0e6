"""Softmax backwards in the styles in which people publish them, written for the tests; ``STYLES`` says what each is."""

import itertools

import numpy as np
import torch


def rows_softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# A method of a class that is no layer.
class Network:
    def __init__(self, sizes, rate):
        self.weights = [np.ones((rows, columns)) for rows, columns in itertools.pairwise(sizes)]
        self.rate = rate

    def dsoftmax(self, da, a):
        return a * (da - (da * a).sum(axis=1, keepdims=True))

    def dsigmoid(self, a):
        return a * (1 - a)


class Unbuildable:
    """Its constructor fails whatever it gets; the method does not need it."""

    def __init__(self, path):
        self.weights = path["weights"]["of"]["nothing"]

    def softmax_derivative(self, data, dL_da):
        return data * (dL_da - np.sum(dL_da * data, axis=-1, keepdims=True))


# Tensors of the file's own.
class Tensor:
    def __init__(self, data, requires_grad=False, parents=()):
        self.data = np.asarray(data, dtype=float)
        self.requires_grad = requires_grad
        self.grad = None
        self.parents = parents
        self._backward = lambda: None

    def add_gradient(self, gradient):
        if self.requires_grad:
            self.grad = gradient if self.grad is None else self.grad + gradient

    def made(self, data, backward):
        out = Tensor(data, self.requires_grad, (self,))
        out._backward = lambda: self.add_gradient(backward(out.grad))
        return out

    def softmax(self, axis=-1):
        e = self.shifted(axis).exp()
        return e.divided(axis)

    def shifted(self, axis):
        return self.made(self.data - self.data.max(axis=axis, keepdims=True), lambda grad: grad)

    def exp(self):
        exps = np.exp(self.data)
        return self.made(exps, lambda grad: grad * exps)

    def divided(self, axis):
        total = self.data.sum(axis=axis, keepdims=True)
        p = self.data / total
        return self.made(p, lambda grad: (grad - (grad * p).sum(axis=axis, keepdims=True)) / total)

    def logsumexp(self, axis=-1):
        largest = self.data.max(axis=axis, keepdims=True)
        out = largest + np.log(np.exp(self.data - largest).sum(axis=axis, keepdims=True))
        p = np.exp(self.data - out)
        return self.made(out.squeeze(axis), lambda grad: np.expand_dims(grad, axis) * p)

    def sideways(self):
        p = rows_softmax(self.data)
        return self.made(p, lambda grad: p * grad)


# Functions with a context, of NumPy and of PyTorch.
class SavedByName:
    @staticmethod
    def forward(ctx, x, axis):
        ctx.probs, ctx.axis = rows_softmax(x), axis
        return ctx.probs

    @staticmethod
    def backward(ctx, grad_in):
        return (ctx.probs * (grad_in - (grad_in * ctx.probs).sum(axis=ctx.axis, keepdims=True)), None)


class TorchFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        y = torch.softmax(x, dim=dim)
        ctx.save_for_backward(y)
        ctx.dim = dim
        return y

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        return y * (dy - (dy * y).sum(dim=ctx.dim, keepdim=True)), None


class TorchModule(torch.nn.Module):
    def forward(self, x):
        return TorchFunction.apply(x, -1)


class TorchLoss(torch.nn.Module):
    def forward(self, logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels)


# Names, constructors, layouts.
class Renamed:
    def __init__(self, name, size):
        self.name, self.size = name, size

    def output(self, z):
        self.activated = rows_softmax(z)
        return self.activated

    def unactivated_error(self, layer_error):
        return self.activated * (layer_error - np.sum(layer_error * self.activated, axis=-1, keepdims=True))


class Misspelt:
    def foward(self, x):
        self.s = rows_softmax(x)
        return self.s

    def bakward(self, dvalues=None):
        return self.s * (dvalues - (dvalues * self.s).sum(axis=-1, keepdims=True))


class WithoutSelf:
    def activate(x):
        return rows_softmax(x)

    def derivative(x):
        s = WithoutSelf.activate(x)
        return s[:, :, None] * (np.eye(s.shape[1]) - s[:, None, :])


class ReturnsItsBackward:
    def forward(self, x):
        p = rows_softmax(x)
        return p, lambda upstream: p * (upstream - (upstream * p).sum(axis=-1, keepdims=True))


class Attention:
    """[batch, heads, queries, keys], as in a transformer."""

    def forward(self, scores):
        b, h, t, k = scores.shape
        self.weights = rows_softmax(scores.reshape(b * h * t, k)).reshape(scores.shape)
        return self.weights

    def backward(self, dweights):
        return self.weights * (dweights - np.einsum("bhtk,bhtk->bht", dweights, self.weights)[..., None])


def positive_axis(probs, grad, axis):
    if axis < 0:
        raise ValueError("axis has to be positive")
    return probs * (grad - (grad * probs).sum(axis=axis, keepdims=True))


def ignored_targets(y_true, probs, dvalues):
    return probs * (dvalues - (dvalues * probs).sum(axis=1, keepdims=True))


# What a backward shares with its forward, and how it is told that it is being trained.
class KeepsUnderItsOwnName:
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_later(rows_softmax(x))
        return ctx.kept_values[0]

    @staticmethod
    def backward(ctx, dout):
        (p,) = ctx.get_saved()
        return p * (dout - (dout * p).sum(axis=1, keepdims=True))


class AsksWhetherItIsTrained:
    def forward(self, inputs, training):
        if training:
            self.output = rows_softmax(inputs)

    def backward(self, dvalues):
        self.dinputs = self.output * (dvalues - (dvalues * self.output).sum(axis=1, keepdims=True))


class KeepsOnlyInTraining:
    def forward(self, x, is_train=False):
        p = rows_softmax(x)
        self.p = p if is_train else None
        return p

    def backward(self, error):
        return self.p * (1 - self.p) * error


class CallKeepsTheOutput:
    def __call__(self, *arguments):
        self.result = self.forward(*arguments)
        return self.result

    def forward(self, x):
        return rows_softmax(x)

    def backward(self, grad):
        return self.result * (grad - (grad * self.result).sum(axis=1, keepdims=True))


class Initialised:
    def __init__(self):
        self.features = None

    def initialize(self, units):
        self.features = units

    def forward(self, x):
        if self.features is None:
            raise ValueError("initialize it first")
        self.p = rows_softmax(x)
        return self.p

    def backward(self, grad):
        jacobian = np.eye(self.features) * self.p[:, None, :] - self.p[:, :, None] * self.p[:, None, :]
        return np.einsum("bij,bj->bi", jacobian, grad)


# Backwards under other names, beside methods that only sound like one.
class BackwardUpdatesWeights:
    def forward(self, x):
        self.p = rows_softmax(x)
        return self.p

    def calc_gradient(self, error):
        return self.p * (error - (error * self.p).sum(axis=1, keepdims=True))

    def backward(self, lr=0.01):
        pass


class BackwardOfInputAndDelta:
    def zero_grad(self):
        pass

    def forward(self, x):
        return rows_softmax(x)

    def backward_delta(self, x, delta):
        p = rows_softmax(x)
        return p * (1 - p) * delta


class LossWithoutAForward:
    def calculate(self, output, y):
        return np.mean(self.forward(output, y))

    def backward(self, dvalues, y_true):
        self.dinputs = (dvalues - y_true) / len(dvalues)


class SaysWhichFunction:
    def derivative_of(self, fun, x):
        if fun != "softmax":
            return x * (1 - x)
        return np.diag(x) - np.outer(x, x)


# Tensors of the file as arguments, tuples, lists.
class TensorLayer:
    def forward(self, x):
        self.p = rows_softmax(x.data)
        return Tensor(self.p, x.requires_grad)

    def backward(self, grad, lr):
        return self.p * (grad - (grad * self.p).sum(axis=1, keepdims=True))


def of_tensors(probs, grad):
    p, g = probs.data, grad.data
    if probs.requires_grad:
        g = g - (g * p).sum(axis=1, keepdims=True)
    return Tensor(p * g)


class OfTuples:
    def forward(self, inputs):
        (x,) = inputs
        return (rows_softmax(x),)

    def backward(self, inputs, grad_outputs):
        p, (gy,) = rows_softmax(inputs[0]), grad_outputs
        return (p * (gy - (gy * p).sum(axis=1, keepdims=True)),)


class ListTensor:
    def __init__(self, data, requires_grad=False, children=()):
        self.data = [[float(value) for value in row] for row in data]
        self.grad = None
        self.requires_grad = requires_grad
        self.children = children
        self.backProp = None

    def softmax(self):
        probs = rows_softmax(np.array(self.data)).tolist()
        out = ListTensor(probs, self.requires_grad, [self])

        def gradient_of_softmax(node, grads):
            dots = [sum(p * g for p, g in zip(*rows, strict=True)) for rows in zip(node.data, grads, strict=True)]
            pairs = zip(node.data, grads, dots, strict=True)
            self.grad = [[p * (g - dot) for p, g in zip(ps, gs, strict=True)] for ps, gs, dot in pairs]

        out.step_back = gradient_of_softmax
        return out


def jacobian_of_a_list(x):
    if not isinstance(x, list):
        raise TypeError("a list, please")
    s = np.array([x]).reshape(-1, 1)
    return np.diagflat(s) - s @ s.T


# The Jacobian, in part, of what is called T, or with its size.
def row_of_the_jacobian(x, i):
    s = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
    return s[i] * (np.eye(len(x))[i] - s)


def element_of_the_jacobian(vector, ind):
    total = np.exp(vector).sum()
    return np.exp(vector[ind]) * (total - np.exp(vector[ind])) / total**2


def jacobian_of_t(T):
    s = rows_softmax(T)
    return np.einsum("ij,jk->ijk", s, np.eye(T.shape[1])) - np.einsum("ij,ik->ijk", s, s)


def jacobian_of_size(n, a):
    return a[:, None, :] * (np.eye(n)[None] - a[:, :, None])


def row_for_an_action(distribution, action):
    return [p * ((i == action) - distribution[action]) for i, p in enumerate(distribution)]


class Activations:
    @staticmethod
    def softmax(x, deriv=False):
        p = np.exp(x) / np.exp(x).sum()
        return p * (1 - p) if deriv else p


# Losses.
class QuadraticError:
    @staticmethod
    def differential(y, expected):
        return 2 * (y - expected)


def prediction_minus_what_is_real(pred, what):
    return pred - what


def predicted_minus_expected(predicted, expected):
    return (predicted - expected) / len(expected)


def minus_the_difference(f, y):
    return -(y - f)


def of_labels(pred, y):
    gradient = pred.copy()
    gradient[np.arange(len(y)), y] -= 1
    return gradient / len(y)


class FusedLayer:
    def forward(self, x):
        self.probs = rows_softmax(x)
        return self.probs

    def backward(self, y_true):
        return (self.probs - y_true) / len(y_true)


# Of one row at a time.
def of_a_vector(probs, grad):
    return (np.diag(probs) - np.outer(probs, probs)) @ grad


class OfAColumn:
    def forward(self, x):
        e = np.exp(x - x.max())
        self.out = e / e.sum()
        return self.out

    def backward(self, grad):
        return ((np.identity(self.out.size) - self.out.T) * self.out) @ grad


class OfAWholeArray:
    def forward(self, x):
        e = np.exp(x - np.max(x))
        self.out = e / np.sum(e)
        return self.out

    def backward(self, dout):
        return self.out * (dout - np.sum(dout * self.out, axis=0))


# Code of batches that is right for one row alone.
class SumWithoutKeepdims:
    def forward(self, x):
        self.y = rows_softmax(x)
        return self.y

    def backward(self, grad_y):
        return self.y * (grad_y - (grad_y * self.y).sum(axis=-1))


class OneRowOfABatch:
    def forward(self, x):
        e = np.exp(x - np.max(x, axis=1, keepdims=True))
        self.s = e / e.sum(axis=1, keepdims=True)
        return self.s

    def backward(self, grad):
        s = self.s.reshape(-1, 1)
        return grad @ (np.diagflat(s) - s @ s.T)


# Limits.
def without_maximum(z, dz):
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return p * (dz - (dz * p).sum(axis=1, keepdims=True))


def maximum_of_everything(z, dz):
    e = np.exp(z - z.max())
    p = e / e.sum(axis=1, keepdims=True)
    return p * (dz - (dz * p).sum(axis=1, keepdims=True))


def through_float32(probs, grad):
    probs, grad = probs.astype(np.float32), grad.astype(np.float32)
    return probs * (grad - (grad * probs).sum(axis=1, keepdims=True))


def in_half_precision(probs, grad):
    probs, grad = probs.astype(np.float16), grad.astype(np.float16)
    return (probs * (grad - (grad * probs).sum(axis=1, keepdims=True))).astype(np.float32)


class LossThatEndsTheNetwork:
    def forward(self, scores, labels):
        self.probs, self.labels = rows_softmax(scores), labels
        return -np.log(self.probs[np.arange(len(labels)), labels]).mean()

    def backward(self, grad_out):
        grad = self.probs.copy()
        grad[np.arange(len(grad)), self.labels] -= 1
        return grad / len(grad)


class LossThatUsesWhatComesInTwice(LossThatEndsTheNetwork):
    def backward(self, grad_out):
        return super().backward(grad_out) * grad_out**2


class StoredInHalf:
    """Half precision between the passes."""

    def forward(self, x):
        probs = rows_softmax(x)
        self.kept = probs.astype(np.float16)
        return probs

    def backward(self, dout):
        probs = self.kept.astype(dout.dtype)
        return probs * (dout - (dout * probs).sum(axis=-1, keepdims=True))


class LossOfABook:
    """Its gradient has a default, as nothing comes in, and is not used."""

    def forward(self, x, t):
        self.y, self.t = rows_softmax(x), t
        return -np.log((self.y * t).sum(axis=1)).mean()

    def backward(self, dout=1):
        return (self.y - self.t) / len(self.t)


def log_of_sum_without_maximum(x, labels):
    log_z = np.log(np.sum(np.exp(x), axis=1, keepdims=True))
    grad = np.exp(x - log_z)
    grad[np.arange(len(labels)), labels] -= 1
    return grad / len(labels)


def _gradient_of_softmax(z):
    probs = rows_softmax(z)
    return np.diagflat(probs) - np.outer(probs, probs)


def through_the_jacobian_of_a_vector(dL_dS, z):
    return _gradient_of_softmax(z).T.dot(dL_dS)


def losses_with_pullback(logits, onehot):
    probs = rows_softmax(logits)

    def pullback(incoming):
        return incoming[:, None] * (probs - onehot)

    return -np.log((probs * onehot).sum(axis=1)), pullback


def policy_backward(logits, actions, returns):
    grad = rows_softmax(logits)
    grad[np.arange(len(actions)), actions] -= 1
    return grad * returns[:, None]


def loss_and_gradient(batch_logits, y):
    probs = rows_softmax(batch_logits)
    rows = np.arange(len(y))
    loss = float(-np.log(probs[rows, y]).mean())
    probs[rows, y] -= 1
    return loss, probs / len(y)


class WithAnAxisThatHasNoGradient:
    @staticmethod
    def forward(ctx, a, dim):
        out = rows_softmax(a)
        ctx.save_for_backward(out, dim)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        out, dim = ctx.saved_values
        return out * (grad_output - (grad_output * out).sum(axis=dim, keepdims=True)), 0.0


class InSetupContext(torch.autograd.Function):
    @staticmethod
    def forward(x, dim):
        return torch.softmax(x, dim)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.dim = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        return output * (grad_output - (grad_output * output).sum(ctx.dim, keepdim=True)), None


class CapaSoftmax:
    def hacia_adelante(self, z):
        self.a = rows_softmax(z)
        return self.a

    def hacia_atras(self, da):
        return self.a * (da - (da * self.a).sum(axis=1, keepdims=True))


class LogSoftmaxOfBatches:
    """Its forward takes batches, and its backward sums over the whole of one."""

    def __call__(self, x):
        self.y = np.log(rows_softmax(x))
        return self.y

    def backward(self, grad_output):
        return grad_output - np.exp(self.y) * grad_output.sum()


def gelu_backward(grad_output, x):
    return grad_output * (0.5 + 0.398942 * x)


def agreement(probs, labels):
    return (probs.argmax(axis=1) == labels).mean()


def from_teacher(teacher_probs, logits, labels):
    grad = rows_softmax(logits)
    soft = 2 * (rows_softmax(logits / 2) - teacher_probs)
    grad[np.arange(len(labels)), labels] -= 1
    return soft + grad


def grad_log_pi(z, labels):
    grad = rows_softmax(z)
    grad[np.arange(len(labels)), labels] -= 1
    return grad


class PerdaDeSoftmax:
    def __call__(self, Z, Y):
        self.P, self.Y = rows_softmax(Z), Y
        return -np.sum(self.Y * np.log(self.P)) / len(Y)

    def gradiente(self):
        return (self.P - self.Y) / len(self.Y)


class GumbelSample:
    def forward(self, logits):
        self.y = rows_softmax(logits + np.random.default_rng().gumbel(size=logits.shape))
        return self.y

    def backward(self, grad_y):
        return self.y * (grad_y - (grad_y * self.y).sum(axis=-1, keepdims=True))


def plus_epsilon(z, dz):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / (e.sum(axis=1, keepdims=True) + 1e-9)
    return p * (dz - (dz * p).sum(axis=1, keepdims=True))


def wrong_where_a_probability_is_small(probs, grad):
    result = probs * (grad - (grad * probs).sum(axis=1, keepdims=True))
    result[probs < 1e-20] = 0.1
    return result


# What they are is not the backward of softmax.
class LogSoftmax:
    def forward(self, x):
        self.log_probs = np.log(rows_softmax(x))
        return self.log_probs

    def backward(self, grad):
        return grad - np.exp(self.log_probs) * grad.sum(axis=1, keepdims=True)


class NamedSoftmax(LogSoftmax):
    """A log-softmax under the wrong name."""


class WithTemperature:
    def __init__(self, temperature=2.5):
        self.temperature = temperature

    def forward(self, x):
        self.p = rows_softmax(x / self.temperature)
        return self.p

    def backward(self, grad):
        return self.p * (grad - (grad * self.p).sum(axis=1, keepdims=True)) / self.temperature


class AsksForATemperature(WithTemperature):
    def __init__(self, T):
        super().__init__(T)


def of_logits_and_temperature(logits, grad, temperature=3.0):
    p = rows_softmax(logits / temperature)
    return p * (grad - (grad * p).sum(axis=1, keepdims=True)) / temperature


class ForgetsItsTemperature(WithTemperature):
    def backward(self, grad):
        return self.p * (grad - (grad * self.p).sum(axis=1, keepdims=True))


def jacobian_of_a_vector(x):
    s = x.reshape(-1, 1)
    return np.diagflat(s) - np.dot(s, s.T)


class Sigmoid:
    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, grad):
        return grad * self.out * (1 - self.out)


class SquaredError:
    def forward(self, output, target):
        return ((output - target) ** 2).sum() / (2 * len(output))

    def backward(self, output, target):
        return (output - target) / len(output)


def mse_prime(y_true, y_pred):
    return 2 * (y_pred - y_true) / y_true.size


class LinearNamedSoftmax:
    def __init__(self, n_in, n_out):
        self.w = np.full((n_in, n_out), 0.1)

    def activation(self, x):
        return rows_softmax(x)

    def backward(self, y, out, inp):
        delta = out.copy()
        delta[np.arange(len(y)), y] -= 1
        self.gradient = inp.T @ delta
        return delta @ self.w.T


class LeavesItsOutput:
    def forward(self, inputs):
        self.output = rows_softmax(inputs)


class ForwardOnly:
    def __init__(self, data):
        self.data = np.array(data)

    def softmax(self):
        return ForwardOnly(rows_softmax(self.data))


def sigmoid_prime(z):
    s = 1 / (1 + np.exp(-z))
    return s * (1 - s)


def loss_value(pred, y):
    return -np.log(pred[np.arange(len(y)), y]).mean()


# Mistakes behind other faults.
class DiagonalWithoutMaximum:
    def forward(self, x):
        self.p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        return self.p

    def backward(self, grad):
        return self.p * (1 - self.p) * grad


def squares(probs, grad):
    return grad * (probs - (probs * probs).sum(axis=1, keepdims=True))


def elementwise(probs, grad):
    return probs[:, :, None] * (np.eye(probs.shape[1]) - probs[:, None, :]) * grad[:, None, :]


# Bugs that do not show in the first result.
class SharedBuffer:
    def __init__(self):
        self.buffers = {}

    def forward(self, x):
        self.y = rows_softmax(x)
        return self.y

    def backward(self, grad):
        out = self.buffers.setdefault((*grad.shape, grad.dtype), np.empty_like(grad))
        return np.multiply(self.y, grad - (grad * self.y).sum(axis=1, keepdims=True), out=out)


class KeepsItsFirstOutput:
    def forward(self, x):
        if getattr(self, "y", None) is None or self.y.shape != x.shape:
            self.y = rows_softmax(x)
        return self.y

    def backward(self, grad):
        return self.y * (grad - (grad * self.y).sum(axis=1, keepdims=True))


def shifts_its_logits(logits, grad):
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p * (grad - (grad * p).sum(axis=1, keepdims=True))


# Caches, state and arguments beside the arrays.
def entropy_forward(scores, classes):
    p = rows_softmax(scores)
    return -np.log(p[np.arange(len(p)), classes]).mean(), {"p": p, "classes": classes}


def entropy_backward(cache):
    gradient = cache["p"].copy()
    gradient[np.arange(len(gradient)), cache["classes"]] -= 1
    return gradient / len(gradient)


def d_entropy_forward(upstream, cache):
    return upstream * entropy_backward(cache)


def of_a_cache_by_names(d_weights, cache):
    weights = cache["attn"]
    d_scores = weights * (d_weights - (d_weights * weights).sum(axis=-1, keepdims=True))
    return np.where(cache["mask"], d_scores, 0.0)


def with_a_mask_of_rows(scores, one_hot, train_mask):
    return (rows_softmax(scores) - one_hot) * train_mask.reshape(-1, 1)


def with_a_number_of_classes(probs, labels, n_classes=2):
    one_hot = np.zeros((len(labels), n_classes))
    one_hot[np.arange(len(labels)), labels] = 1
    return probs - one_hot


def of_labels_with_three_axes(probs, labels):
    batch, words, _ = probs.shape
    gradient = probs.copy()
    gradient[np.arange(batch)[:, None], np.arange(words)[None, :], labels] -= 1
    return gradient / (batch * words)


class InputsInAnAttribute:
    def __init__(self):
        self.inputs = []

    def forward(self):
        self.outputs = rows_softmax(self.inputs)
        return self.outputs

    def backward(self, grad, lr):
        return self.outputs * (grad - (grad * self.outputs).sum(axis=-1, keepdims=True))


class ToldItsTargetsByItsLoss:
    def forward(self, x):
        self.p, self.t = rows_softmax(x), None
        return self.p

    def loss(self, t):
        self.t = t
        return -np.sum(t * np.log(self.p))

    def backward(self, dy):
        if self.t is None:
            raise ValueError("there was no loss")
        return dy * (self.p - self.t)


class LossOfTensors:
    def forward(self, scores, classes):
        p = rows_softmax(scores.data)
        self.p, self.classes = p, classes.data.astype(np.intp)
        return np.array(-np.log(p[np.arange(len(p)), self.classes]).mean())

    def backward(self, grad):
        gradient = self.p.copy()
        gradient[np.arange(len(gradient)), self.classes] -= 1
        return gradient * grad / len(gradient), np.zeros(self.classes.shape)


class PrivateMethods:
    def __call__(self, *args):
        return self._forward(self, *args)

    @staticmethod
    def _forward(ctx, x, /, *, dim=1):
        p = rows_softmax(x)
        ctx.saveForBackward(p, dim)
        return np.log(p)

    @staticmethod
    def _backward(ctx, gradient):
        p, dim = ctx.saved
        return (gradient - p * gradient.sum(axis=dim, keepdims=True),)


class Float32Only:
    def forward(self, z):
        self.p = torch.exp(z) / (torch.exp(z) @ torch.ones((z.shape[1], 1)))
        return self.p

    def backward(self, da):
        jacobians = torch.diag_embed(self.p) - self.p[:, :, None] * self.p[:, None, :]
        return (da[:, None, :] @ (jacobians * torch.ones(1)).float())[:, 0, :]


# What a policy gradient climbs, and other losses.
def grad_log_policy(probs, action):
    gradient = -probs
    gradient[action] += 1
    return gradient


def with_a_reward(y, temp, chosen, reward):
    one_hot = np.zeros(len(y))
    one_hot[chosen] = 1
    return reward * (one_hot - y) / temp


def wrong_log_policy(probs, action):
    gradient = probs.copy()
    gradient[action] *= 2
    return gradient


def binary_entropy_gradient(probs, targets):
    return np.where(targets == 0, 1 / (1 - probs), -1 / probs)


# What is not softmax's: the gradient of the weights before it.
def gradient_of_weights(weights, examples, labels):
    probs = rows_softmax(examples @ weights)
    probs[np.arange(len(labels)), labels] -= 1.0
    return examples.T @ probs / len(examples)


# Target, verdict, mistake (empty: none), words that the report has to have.


# Losses with weights, and attention: with identity matrices beside them, a parameter is the logits.
def classifier_loss(W, X, y, reg):
    p = rows_softmax(X @ W)
    loss = -np.log(p[np.arange(len(X)), y]).mean() + 0.5 * reg * np.sum(W * W)
    p[np.arange(len(X)), y] -= 1.0
    return loss, X.T @ p / len(X) + reg * W


def classifier_loss_in_columns(W, X, y, reg):
    scores = W.dot(X)
    p = np.exp(scores - scores.max(axis=0))
    p /= p.sum(axis=0)
    loss = -np.log(p[y, np.arange(X.shape[1])]).mean() + reg * np.sum(W * W)
    p[y, np.arange(X.shape[1])] -= 1.0
    return loss, p.dot(X.T) / X.shape[1] + 2.0 * reg * W


def classifier_loss_of_mean_and_sum(W, X, y, reg):
    p = rows_softmax(X @ W)
    loss = -np.log(p[np.arange(len(X)), y]).mean()
    p[np.arange(len(X)), y] -= 1.0
    return loss, X.T @ p


def word_cost_and_gradient(predicted, target, outputVectors, dataset):
    scores = outputVectors @ predicted
    p = np.exp(scores - scores.max())
    p /= p.sum()
    cost = -np.log(p[target])
    p[target] -= 1.0
    return cost, outputVectors.T @ p, np.outer(p, predicted)


def attention_backward(dout, q, k, v):
    p = rows_softmax(q @ np.swapaxes(k, -1, -2) / np.sqrt(k.shape[-1]))
    dp = dout @ np.swapaxes(v, -1, -2)
    ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) / np.sqrt(k.shape[-1])
    return ds @ k, np.swapaxes(ds, -1, -2) @ q, np.swapaxes(p, -1, -2) @ dout


def attention_backward_of_diagonal(dout, q, k, v, attn_weights):
    dp = dout @ v.T
    ds = dp * attn_weights * (1.0 - attn_weights) / np.sqrt(k.shape[-1])
    return ds @ k, ds.T @ q, attn_weights.T @ dout


# Functions that return nothing.
def into_dx(dy, y, dx):
    for row in range(len(y)):
        dx[row] = y[row] * (dy[row] - dy[row] @ y[row])


def backward_in_place_(grad, probs):
    grad -= (grad * probs).sum(axis=1, keepdims=True)
    grad *= probs


def of_flat_buffers(out_flat, grad_out_flat, grad_x_flat, M, K):
    for row in range(M):
        dot = 0.0
        for column in range(K):
            dot += out_flat[row * K + column] * grad_out_flat[row * K + column]
        for column in range(K):
            place = row * K + column
            grad_x_flat[place] += out_flat[place] * (grad_out_flat[place] - dot)


def of_steps(dlogits, dlosses, probs, targets, B, T, V):
    for b in range(B):
        for t in range(T):
            for i in range(V):
                indicator = 1.0 if i == targets[b, t] else 0.0
                dlogits[b, t, i] += (probs[b, t, i] - indicator) * dlosses[b, t]


def prints_and_returns_nothing(probs, grad):
    print(probs * grad)


# What is returned is not the gradient itself.
def in_a_dict(logits, labels):
    p = rows_softmax(logits)
    loss = -np.log(p[np.arange(len(p)), labels]).mean()
    p[np.arange(len(p)), labels] -= 1.0
    return {"loss": loss, "probs": rows_softmax(logits), "dlogits": p / len(p)}


def vjp_of_answer(ans, x):
    return lambda g: ans * (g - (g * ans).sum(axis=1, keepdims=True))


def vjp_of_loss(ans, x, label):
    def vjp(g):
        p = rows_softmax(x)
        p[np.arange(len(p)), label] -= 1.0
        return g * p / len(p)

    return vjp


def gradient_of_operation(op, grad):
    p = op.outputs[0]
    return p * (grad - (grad * p).sum(axis=1, keepdims=True))


# PyTorch's functions that take more than an array.
class MaskedFunction(torch.autograd.Function):
    @staticmethod
    def forward(self, input, mask, dim):
        self.dim = dim
        output = torch.softmax(input.masked_fill(~mask.bool(), float("-inf")), dim)
        self.save_for_backward(output)
        return output

    @staticmethod
    def backward(self, grad_output):
        (output,) = self.saved_tensors
        return output * (grad_output - (grad_output * output).sum(self.dim, keepdim=True)), None, None


class SmoothedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, label, label_smooth, reduction, lb_ignore):
        kept = label != lb_ignore
        log_p = torch.log_softmax(logits, 1)
        smoothed = torch.full_like(logits, label_smooth / logits.shape[1])
        smoothed[torch.arange(len(label)), label] += 1.0 - label_smooth
        ctx.save_for_backward(log_p.exp() - smoothed)
        ctx.divisor = float(kept.sum()) if reduction == "mean" else 1.0
        return -(smoothed * log_p).sum() / ctx.divisor

    @staticmethod
    def backward(ctx, grad_output):
        (difference,) = ctx.saved_tensors
        return grad_output * difference / ctx.divisor, None, None, None, None


class WeightedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels, class_weights):
        ctx.save_for_backward(logits, labels, class_weights)
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return (class_weights[labels] * losses).sum() / len(labels)

    @staticmethod
    def backward(ctx, grad_output):
        logits, labels, class_weights = ctx.saved_tensors
        p = torch.softmax(logits, 1)
        p[torch.arange(len(labels)), labels] -= 1.0
        return grad_output * class_weights[labels][:, None] * p / len(labels), None, None


class AttentionFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, Q, K, V, sm_scale):
        p = torch.softmax(Q @ K.transpose(-2, -1) * sm_scale, -1)
        ctx.save_for_backward(Q, K, V, p)
        ctx.sm_scale = sm_scale
        return p @ V

    @staticmethod
    def backward(ctx, dO):
        Q, K, V, p = ctx.saved_tensors
        dP = dO @ V.transpose(-2, -1)
        dS = ctx.sm_scale * p * (dP - (dP * p).sum(-1, keepdim=True))
        return dS @ K, dS.transpose(-2, -1) @ Q, p.transpose(-2, -1) @ dO, None


def sequence_loss(logits, targets, pad_id=0):
    p = rows_softmax(logits)
    p[np.arange(len(p)), targets] -= 1.0
    kept = targets != pad_id
    return p * kept[:, None] / kept.sum()


def policy_gradient(state, weight):
    p = rows_softmax(state @ weight)
    action = int(np.argmax(p))
    return action, state.T @ (np.eye(p.shape[1])[action] - p)


class ReturnsJacobiansOfWhatComesIn:
    def forward(self, x):
        return rows_softmax(x)

    def back(self, delta):
        p = rows_softmax(delta)
        return p[:, :, None] * (np.eye(p.shape[1]) - p[:, None, :])


class GradientIsAsked:
    def __call__(self, guesses, truths):
        return self.get_grad(guesses, truths), ((guesses - truths) ** 2).sum()

    def get_grad(self, guesses, truths):
        return (guesses - truths) / len(guesses)


class AutogradTensor:
    """Its graph is that of a flag named autograd, and its gradient is a tensor, too."""

    def __init__(self, data, autograd=False, creators=None):
        self.data = np.array(data)
        self.autograd = autograd
        self.creators = creators
        self.grad = None

    def backward(self, grad=None):
        grad = AutogradTensor(np.ones_like(self.data)) if grad is None else grad
        self.grad = grad
        if self.creators:
            self.creators[0].backward(AutogradTensor(self.difference * grad.data))

    def cross_entropy(self, target_indices):
        labels = target_indices.data.flatten()
        p = rows_softmax(self.data)
        loss = -np.log(p[np.arange(len(labels)), labels]).mean()
        out = AutogradTensor(loss, autograd=self.autograd, creators=[self])
        p[np.arange(len(labels)), labels] -= 1.0
        out.difference = p / len(labels)
        return out


class Softmaxschicht:
    def vorwärts(selbst, eingaben):
        selbst.ausgaben = rows_softmax(eingaben)
        return selbst.ausgaben

    def ableiten_auf_eingaben(selbst, dkosten):
        return selbst.ausgaben * (dkosten - (dkosten * selbst.ausgaben).sum(axis=1, keepdims=True))


class ActivationOfAKind:
    """One class for all activations, told which one it is."""

    def __init__(self, kind):
        self.kind = kind

    def forward(self, x):
        if self.kind not in ("relu", "softmax"):
            raise ValueError(self.kind)
        self.output = np.maximum(x, 0) if self.kind == "relu" else rows_softmax(x)
        return self.output

    def backward(self, grad):
        if self.kind == "relu":
            return grad * (self.output > 0)
        return self.output * (grad - (grad * self.output).sum(axis=1, keepdims=True))


class BuiltBeforeItIsCalled:
    def build(self, input_shape):
        self.eye = np.eye(input_shape[-1])

    def call(self, inputs):
        self.output = rows_softmax(inputs)
        return self.output

    def backward(self, grad):
        jacobians = self.output[:, :, None] * (self.eye - self.output[:, None, :])
        return np.einsum("bi,bij->bj", grad, jacobians)


class LossIfItIsToldLabels:
    def forward(self, logits, y_true=None):
        self.probs, self.labels = rows_softmax(logits), y_true
        return self.probs

    def backward(self):
        grad = self.probs.copy()
        grad[np.arange(len(grad)), self.labels] -= 1
        return grad / len(grad)


class OperationOfANode:
    def compute(self, x):
        return rows_softmax(x)

    def gradient(self, out_grad, node):
        probs = rows_softmax(node.inputs[0])
        return probs * (out_grad - (out_grad * probs).sum(axis=-1, keepdims=True))


def backward_of_probs(y):
    return lambda dy: y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def backward_of_what_may_be_logits(x):
    return lambda dy: x * (dy - (dy * x).sum(axis=-1, keepdims=True))


# Only told to be softmax by a flag. Its backward takes the output S and the logits Z, and builds the Jacobian of Z.
class SwitchedOutput:
    def __init__(self, size, softmax=False):
        self.softmax = softmax

    def forward_pass(self, Z):
        return np.exp(Z) / np.exp(Z).sum() if self.softmax else Z

    def backward_pass(self, dS, S, Z):
        return dS @ (np.diagflat(Z) - np.outer(Z, Z)) if self.softmax else dS


def picks_of_each_row(X, y):
    m = len(y)
    e = np.exp(X - X.max())
    grad = e / e.sum()  # the axis is missing
    grad[range(m), y] -= 1
    return grad / m


class LossOfOneLongRow:
    def forward(self, x, t):
        e = np.exp(x - x.max())
        self.y, self.t, self.batch_size = e / e.sum(), t, len(t)
        return -np.sum(t * np.log(self.y + 1e-7)) / self.batch_size

    def backward(self, dout=1):
        return (self.y - self.t) / self.batch_size


class TimesItsInput:
    def forward(self, x):
        self.x, self.p = x, rows_softmax(x)
        return self.p

    def backward(self, output_true):
        return self.x * (self.p - output_true) / output_true.size


class LogitsForProbs:
    def forward(self, logit, gt):
        self.logit, self.gt = logit, gt
        e = np.exp(logit)
        return -np.sum(np.log(e / np.tile(e.sum(axis=1), (10, 1)).T) * gt) / len(gt)  # for ten classes

    def backward(self):
        return self.logit - self.gt


class LossInSinglePrecision(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, labels):
        log_sums = torch.logsumexp(x.float(), dim=-1, keepdim=True)
        ctx.save_for_backward(x, log_sums, labels)
        return (log_sums - x.gather(-1, labels.view(-1, 1))).mean()

    @staticmethod
    def backward(ctx, grad_output):
        x, log_sums, labels = ctx.saved_tensors
        grad = (x - log_sums).exp()
        grad[torch.arange(len(grad)), labels] -= 1
        return grad * grad_output / len(grad), None


def attention_from_log_sums(Q, K, V, O, dO, L, is_causal):  # noqa: E741 - as in papers
    P = np.exp(Q @ K.T / np.sqrt(Q.shape[-1]) - L[..., None])
    dS = P * (dO @ V.T - (O * dO).sum(axis=-1, keepdims=True)) / np.sqrt(Q.shape[-1])
    return dS @ K, dS.T @ Q, P.T @ dO


def attention_of_lists(Q, K, V, dO, lse):
    scale = 1 / np.sqrt(len(Q[0]))
    P = [[np.exp(scale * np.dot(q, k) - log_sum) for k in K] for q, log_sum in zip(Q, lse, strict=True)]
    dP = [[np.dot(incoming, v) for v in V] for incoming in dO]
    dS = [[p * (g - np.dot(ps, gs)) * scale for p, g in zip(ps, gs, strict=True)] for ps, gs in zip(P, dP, strict=True)]
    return [[sum(d * k[j] for d, k in zip(ds, K, strict=True)) for j in range(len(K[0]))] for ds in dS], dS


def attention_to_itself(Q, K, V, dO, lse):
    n = len(Q)  # of the keys, too
    P = np.exp(Q @ K[:n].T / np.sqrt(Q.shape[-1]) - lse[:, None])
    dP = dO @ V[:n].T
    dS = P * (dP - (dP * P).sum(axis=-1, keepdims=True)) / np.sqrt(Q.shape[-1])
    return dS @ K[:n], dS.T @ Q, P.T @ dO


def sigmoid_backward(grad_output, output):
    return grad_output * output * (1 - output)


# What comes beside the gradient, and what makes a backward.
def forward_and_gradient(x, grad_out):
    p = rows_softmax(x)
    grad = p * (grad_out - (grad_out * p).sum(axis=1, keepdims=True))
    return p, grad


def probabilities_and_diagonal(x, grad_out):
    p = rows_softmax(x)
    grad = p * (1 - p) * grad_out
    return p, grad


def gradients_by_name(probs, grad_output):
    dA = probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True))
    return {"A": probs, "dA": dA}


def make_softmax(axis=-1):
    kept = {}

    def forward(x):
        kept["p"] = rows_softmax(x)
        return kept["p"]

    def backward(grad_output):
        p = kept["p"]
        return p * (grad_output - (grad_output * p).sum(axis=axis, keepdims=True))

    return forward, backward


def make_diagonal():
    kept = {}

    def forward(x):
        kept["p"] = rows_softmax(x)
        return kept["p"]

    def backward(grad_output):
        return kept["p"] * (1 - kept["p"]) * grad_output

    return {"forward": forward, "backward": backward}


# What tells nothing of itself, and what is not what it seems.
def checked(function):
    def check(*args, **kwargs):
        return function(*args, **kwargs)

    return check


@checked
def behind_a_decorator(grad, softmax_a, axis):
    return softmax_a * (grad - (grad * softmax_a).sum(axis=axis, keepdims=True))


class DetachingTensor:
    def __init__(self, data, requires_grad=False, backward=None):
        self.data, self.requires_grad, self.walk = np.asarray(data, dtype=np.float64), requires_grad, backward
        self.grad = np.zeros_like(self.data)

    def detach(self):
        return DetachingTensor(self.data.copy())

    def backward(self, grad_output=None):
        self.walk(np.ones_like(self.data) if grad_output is None else grad_output)

    def softmax(self, dim=-1):
        s = rows_softmax(self.data)

        def walk(grad_output):
            self.grad = self.grad + s * (grad_output - (grad_output * s).sum(axis=dim, keepdims=True))

        return DetachingTensor(s, self.requires_grad, walk)


class StartsFromOne:
    def __init__(self, data):
        self.data, self.grad, self.walk = data, np.zeros_like(data), None

    def backward(self):
        self.grad[:] = 1
        self.walk()

    def softmax(self):
        out = StartsFromOne(rows_softmax(self.data))

        def walk():
            self.grad += out.data * (out.grad - (out.grad * out.data).sum(axis=1, keepdims=True))

        out.walk = walk
        return out


class QuotientOfTensors:
    @staticmethod
    def __call__(tensor, dim):
        exps = np.exp(tensor.data)
        total = exps.sum(axis=1, keepdims=True)
        out = Tensor(exps / total, True)

        def backward():
            slope = -(out.grad * exps).sum(axis=1, keepdims=True) / total**2
            tensor.grad = (out.grad * (exps / total) + slope * exps).astype(np.float32)

        out._backward = backward
        return out


class UpdateOutput:
    def updateOutput(self, input):
        self.output = rows_softmax(input)
        return self.output

    def updateGradInput(self, input, gradOutput):
        self.gradInput = self.output * (gradOutput - (gradOutput * self.output).sum(axis=1, keepdims=True))
        return self.gradInput


class CallableCE:
    @staticmethod
    def __call__(x, y):
        p = rows_softmax(x)
        return -np.sum(y * np.log(p)) / len(x), (p - y) / len(x), p


class IgnoresWhatComesIn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, y):
        ctx.save_for_backward(torch.softmax(z, dim=-1), y)
        return torch.logsumexp(z, dim=-1) - z.gather(-1, y[..., None]).squeeze(-1)

    @staticmethod
    def backward(ctx, losses):
        p, y = ctx.saved_tensors
        return p - torch.nn.functional.one_hot(y, p.shape[-1]), None


class LossOfEachRow(torch.autograd.Function):
    @staticmethod
    def forward(z, y):
        return torch.logsumexp(z, dim=-1) - z.gather(-1, y[..., None]).squeeze(-1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        z, y = inputs
        ctx.save_for_backward(torch.softmax(z, dim=-1), y)

    @staticmethod
    def backward(ctx, gL):
        p, y = ctx.saved_tensors
        return gL[..., None] * (p - torch.nn.functional.one_hot(y, p.shape[-1])), None


def checks_its_mask(scores, targets, mask):
    if scores.ndim != 3 or targets.shape != scores.shape[:2] or mask.shape != targets.shape:
        raise ValueError("not of examples and steps")
    rows, labels = scores.reshape(-1, scores.shape[-1]), targets.reshape(-1)
    gradient = rows_softmax(rows)
    loss = -np.sum(mask.reshape(-1) * np.log(gradient[np.arange(len(rows)), labels])) / len(scores)
    gradient[np.arange(len(rows)), labels] -= 1
    return loss, (gradient * mask.reshape(-1, 1) / len(scores)).reshape(scores.shape)


def jacobian_with_the_batch_last(z):
    e = np.exp(z - z.max(axis=0))
    s = e / e.sum(axis=0)  # [N, B]
    return s[:, None] * np.eye(len(s))[:, :, None] - s[:, None] * s[None]


def softmax_jacobian_of_tensors(z):
    s = torch.softmax(z, dim=0)
    return s.unsqueeze(1) * torch.eye(len(s), dtype=z.dtype).unsqueeze(-1) - s.unsqueeze(1) * s.unsqueeze(0)


def of_sequences(dy, y, lengths):
    dx, start = y * dy, 0
    for length in lengths:
        rows = slice(start, start + length)
        dx[rows] -= y[rows] * dx[rows].sum(axis=1, keepdims=True)
        start += length
    return dx


class ToldLabelsOfTheBatch:
    def forward(self, x):
        self.chances = rows_softmax(x)
        return self.chances

    def backward(self, batch_label):
        return (self.chances - batch_label) / len(batch_label)


class AskedForItsLoss:
    def __init__(self):
        self.label = []

    def forward(self, data):
        self.prob = rows_softmax(data)
        return self.prob

    def get_loss(self, label):
        self.label = label
        return -np.sum(label * np.log(self.prob)) / len(label)

    def backward(self):
        return (self.prob - self.label) / len(self.prob)


class ToldTheShape:
    def __init__(self, input_shape):
        self.input_shape = input_shape

    def forward(self, x):
        if x.shape != self.input_shape:
            raise ValueError("not of this shape")
        self.out = rows_softmax(x)
        return self.out

    def backward(self, y_true, learning_rate):
        return self.out - y_true


class ColumnsWithTargetsInRows:
    def forward(self, x):
        self.out = rows_softmax(x.T).T
        return self.out

    def backprop(self, output_grad, learning_rate, labels):
        return self.out - labels.T


# What its backward is told first is what its forward was told.
class LogSoftmaxOfExponentials:
    def forward(self, input):
        return input - np.log(np.exp(input).sum(axis=1, keepdims=True))

    def backward(self, input, grad_output):
        probs = np.exp(input) / np.exp(input).sum(axis=1, keepdims=True)
        return grad_output - probs * grad_output.sum(axis=1, keepdims=True)


class JacobiansBelowOneMaximum:
    def forward(self, inputs):
        e = np.exp(inputs - np.max(inputs))
        self.s = e / (e.sum(axis=1, keepdims=True) + 1e-10)
        return self.s

    def backward(self):
        return np.array([np.diagflat(row) - np.outer(row, row) for row in self.s])


# Its own loss is the mean over all elements, and so is its gradient.
class MeanOfElements:
    def forward(self, logits, targets):
        self.p = rows_softmax(logits)
        return -np.mean(targets * np.log(self.p))

    def backward(self, logits, targets):
        return (self.p - targets) / logits.size


def masked_entropy_loss(X, Y, mask):
    return -np.mean(Y * np.log(rows_softmax(X)) * mask.reshape(-1, 1))


def masked_entropy_backward(X, Y, mask):
    return (rows_softmax(X) - Y) * mask.reshape(-1, 1) / X.size


def average_over_elements_alone(logits, targets):
    return (rows_softmax(logits) - targets) / logits.size


def delta_softmax(z):
    return np.ones_like(z)


# The logarithm of what softmax leaves, with all that PyTorch lets a function tell its context.
class LogOfTheRest(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, dim):
        ctx.set_materialize_grads(False)
        probs = logits.softmax(dim)
        ctx.save_for_backward(probs)
        return (1 - probs).log()

    @staticmethod
    def backward(ctx, grad):
        (probs,) = ctx.saved_tensors
        if not ctx.needs_input_grad[0]:
            return None, None
        scaled = -grad * probs / (1 - probs)
        return scaled - probs * scaled.sum(-1, keepdim=True), None


# A loss and a part of it, and no gradient.
def distillation_loss(teacher_values, student_values, temperature, alpha):
    taught, learnt = (rows_softmax(each / temperature) for each in (teacher_values, student_values))
    divergence = np.sum(taught * np.log(taught / learnt))
    return alpha * np.mean((teacher_values - student_values) ** 2) + (1 - alpha) * divergence, divergence


# Softmax and a squared error in one, with softmax's Jacobian, and without it.
class SquaresBehindSoftmax:
    def forward(self, logits, targets):
        self.p, self.targets = rows_softmax(logits), targets
        return 0.5 * ((self.p - targets) ** 2).sum(axis=1).mean()

    def backward(self):
        d = (self.p - self.targets) / len(self.p)
        return self.p * (d - (d * self.p).sum(axis=1, keepdims=True))


class SquaresAlone(SquaresBehindSoftmax):
    def backward(self):
        return (self.p - self.targets) / len(self.p)


# Its backward is told the labels: it is that of softmax and its loss.
def softmax_and_its_loss(x):
    p = rows_softmax(x)

    def backward(t):
        return (p - t) / len(t)

    return p, backward


def jacobian_of_a_batch_of_columns(potentials, activations):
    jacobians = -activations @ activations.transpose(0, 2, 1)
    places = np.arange(activations.shape[1])
    jacobians[:, places, places] += activations[:, :, 0]
    return jacobians


def jacobian_of_sequences(x):
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    s = shifted / shifted.sum(axis=-1, keepdims=True)
    batch, steps, features = s.shape
    diagonals = np.zeros((batch, steps, features, features), dtype=s.dtype)
    diagonals[:, :, np.arange(features), np.arange(features)] = s
    return diagonals - np.einsum("bni,bnj->bnij", s, s)


def loss_or_its_gradient(net_output, labels, der=False):
    p = rows_softmax(net_output.T).T
    return p - labels if der else -np.sum(labels * np.log(p))


# Right only behind a loss that hands it minus the one-hot targets.
class LogSoftmaxOfOneLoss:
    def forward(self, x):
        self.log_probs = np.log(rows_softmax(x))
        return self.log_probs

    def backward(self, x, weight_decay):
        return (np.exp(self.log_probs) + x) / len(x)


# Its backward is known by its parameter, not by its name.
class ClassifiesAndLearns:
    def classify(self, x, t):
        self.p, self.t = rows_softmax(x), t
        return self.cross_entropy_error()

    def learn(self, dout=1):
        return (self.p - self.t) / len(self.p)

    def cross_entropy_error(self):
        return -np.sum(np.log(self.p) * self.t) / len(self.p)

    def update(self, grad):
        self.p -= grad


# Told to give its derivative, it takes its own output.
def softmax_or_back(z, BACK=False):
    return z * (1 - z) if BACK else rows_softmax(z)


class OnesForItsOutput:
    def __call__(self, Z):
        e = np.exp(Z - np.max(Z, axis=0))  # no empty batch
        return e / np.sum(e, axis=0)

    def grad(self, A):
        return np.ones_like(A)


STYLES = (
    ("ClassifiesAndLearns", "right, with a limit", "", "classify(logits, targets), then learn(upstream)"),
    ("softmax_or_back", "wrong", "diagonal_only_unmultiplied", "told to give its derivative"),
    ("OnesForItsOutput", "wrong", "pass_through", "grad(probs)"),
    ("LogSoftmaxOfOneLoss", "right, with a limit", "", "one incoming gradient"),
    ("softmax_and_its_loss", "right", "", "what it returned(targets)"),
    ("jacobian_of_a_batch_of_columns", "right", "", "[batch, features, 1]"),
    ("jacobian_of_sequences", "right", "", "the Jacobian of softmax"),
    ("loss_or_its_gradient", "right", "", "loss_or_its_gradient(logits, targets)"),
    ("ToldTheShape", "right", "", "ToldTheShape(shape)"),
    ("ColumnsWithTargetsInRows", "right, with a limit", "", "turned_targets"),
    ("Tensor.logsumexp", "not a backward of softmax", "", "by its name (logsumexp)"),
    ("jacobian_with_the_batch_last", "right", "", "the Jacobian of softmax"),
    ("softmax_jacobian_of_tensors", "right", "", "the Jacobian of softmax"),
    ("of_sequences", "right", "", "of_sequences(grad_output, probs, lengths)"),
    ("ToldLabelsOfTheBatch", "right", "", "forward(logits), then backward(targets)"),
    ("AskedForItsLoss", "right", "", "get_loss(targets)"),
    ("UpdateOutput", "right", "", "updateOutput(logits), then updateGradInput(logits, grad_output)"),
    ("CallableCE", "right", "", "softmax and cross-entropy together"),
    ("IgnoresWhatComesIn", "right, with a limit", "", "ignores the gradient that comes in"),
    ("LossOfEachRow", "right", "", "then backward(context, row_upstream)"),
    ("checks_its_mask", "right", "", "row_mask"),
    ("behind_a_decorator", "right", "", "behind_a_decorator(grad_output, probs, axis)"),
    ("DetachingTensor.softmax", "right", "", "then backward(grad_output)"),
    ("StartsFromOne.softmax", "could not be called", "", ""),
    ("QuotientOfTensors", "right, with a limit", "", "moderate logits only"),
    ("forward_and_gradient", "right", "", "forward_and_gradient(logits, grad_output)"),
    ("probabilities_and_diagonal", "wrong", "diagonal_only", ""),
    ("gradients_by_name", "right", "", "gradients_by_name(probs, grad_output)"),
    ("make_softmax", "right", "", "forward(logits), then backward(grad_output)"),
    ("make_diagonal", "wrong", "diagonal_only", "forward(logits), then backward(grad_output)"),
    ("SwitchedOutput", "wrong", "jacobian_of_logits", "backward_pass(grad_output, probs, logits)"),
    ("picks_of_each_row", "wrong", "normalised_over_array", "its code is for batches"),
    ("LossOfOneLongRow", "wrong", "normalised_over_array", "its code is for batches"),
    ("TimesItsInput", "wrong", "", "backward(targets)"),
    ("LogitsForProbs", "wrong", "logits_for_probs", "softmax and cross-entropy together"),
    ("LossInSinglePrecision", "right, with a limit", "", "it is inexact"),
    ("attention_from_log_sums", "right", "", "log_sums, false)"),
    ("attention_of_lists", "right", "", "grad_output, log_sums)"),
    ("attention_to_itself", "could not be called", "", ""),
    ("sigmoid_backward", "not a backward of softmax", "", "by its name (sigmoid)"),
    ("ActivationOfAKind", "right", "", "ActivationOfAKind(name)"),
    ("BuiltBeforeItIsCalled", "right", "", "call(logits)"),
    ("LossIfItIsToldLabels", "right", "", "forward(logits, labels), then backward()"),
    ("OperationOfANode", "right", "", "gradient(grad_output, operation)"),
    ("backward_of_probs", "right", "", "function(probs), then what it returned(grad_output)"),
    ("backward_of_what_may_be_logits", "wrong", "jacobian_of_logits", ""),
    ("Network.dsoftmax", "right", "", "Network(sizes, learning_rate)"),
    ("Unbuildable.softmax_derivative", "right", "", "made without its constructor"),
    ("Tensor.softmax", "right", "", ""),
    ("gradient_of_weights", "could not be called", "", ""),
    ("Tensor.sideways", "wrong", "outer_product_missing", ""),
    ("SavedByName", "right", "", ""),
    ("TorchFunction", "right", "", ""),
    ("TorchModule", "right", "", ""),
    ("TorchLoss", "right", "", "softmax and cross-entropy together"),
    ("Renamed", "right", "", "Renamed(name, features)"),
    ("Misspelt", "right", "", ""),
    ("WithoutSelf", "right", "", "the Jacobian of softmax"),
    ("ReturnsItsBackward", "right", "", ""),
    ("Attention", "right", "", "[1, 1, batch, features]"),
    ("positive_axis", "right", "", ""),
    ("ignored_targets", "right", "", ""),
    ("KeepsUnderItsOwnName", "right", "", ""),
    ("AsksWhetherItIsTrained", "right", "", "forward(logits, training)"),
    ("KeepsOnlyInTraining", "wrong", "diagonal_only", ""),
    ("CallKeepsTheOutput", "right", "", "__call__(logits)"),
    ("Initialised", "right", "", ""),
    ("BackwardUpdatesWeights", "right", "", "calc_gradient(grad_output)"),
    ("BackwardOfInputAndDelta", "wrong", "diagonal_only", "backward_delta(logits, grad_output)"),
    ("LossWithoutAForward", "right", "", "found in the attribute dinputs"),
    ("SaysWhichFunction.derivative_of", "right, with a limit", "", "derivative_of(name, probs)"),
    ("TensorLayer", "right", "", "the forward's arrays in tensors of the file"),
    ("of_tensors", "right", "", "every array in a tensor of the file"),
    ("OfTuples", "right", "", "every array in a tuple"),
    ("ListTensor.softmax", "right", "", "its own backward with grad_output"),
    ("jacobian_of_a_list", "right, with a limit", "", "one vector [features] at a time; nested lists"),
    ("row_of_the_jacobian", "right, with a limit", "", "row_of_the_jacobian(logits, index)"),
    ("element_of_the_jacobian", "wrong", "diagonal_only_unmultiplied", ""),
    ("jacobian_of_t", "right", "", "the Jacobian of softmax"),
    ("jacobian_of_size", "right", "", "jacobian_of_size(features, probs)"),
    ("row_for_an_action", "right", "", "the Jacobian of softmax"),
    ("Activations.softmax", "wrong", "diagonal_only_unmultiplied", ""),
    ("QuadraticError.differential", "not a backward of softmax", "", "a squared error"),
    ("prediction_minus_what_is_real", "right", "", "softmax and cross-entropy together"),
    ("predicted_minus_expected", "right", "", "softmax and cross-entropy together"),
    ("minus_the_difference", "right", "", "the sum of the loss"),
    ("of_labels", "right", "", "softmax and cross-entropy together"),
    ("FusedLayer", "right", "", "softmax and cross-entropy together"),
    ("of_a_vector", "right, with a limit", "", "one vector [features] at a time; a batch"),
    ("OfAColumn", "right, with a limit", "", "one column [features, 1] at a time"),
    ("OfAWholeArray", "right, with a limit", "", "a batch is wrong: normalised over array"),
    ("SumWithoutKeepdims", "wrong", "sum_without_keepdims", ""),
    ("OneRowOfABatch", "wrong", "", "right only for one row: its code is for batches"),
    ("without_maximum", "right, with a limit", "exponential_overflows", "moderate logits only"),
    ("maximum_of_everything", "right, with a limit", "maximum_of_array", "moderate logits only"),
    ("through_float32", "right, with a limit", "single_precision", "inexact"),
    ("in_half_precision", "right, with a limit", "", "in half precision"),
    ("LossThatEndsTheNetwork", "right, with a limit", "", "ignores the gradient that comes in"),
    ("LossThatUsesWhatComesInTwice", "wrong", "scaled", "expected"),
    ("StoredInHalf", "right, with a limit", "", "in half precision"),
    ("LossOfABook", "right, with a limit", "", "ignores the gradient that comes in"),
    ("log_of_sum_without_maximum", "right, with a limit", "", "moderate logits only"),
    ("through_the_jacobian_of_a_vector", "right, with a limit", "", "one vector [features] at a time"),
    ("losses_with_pullback", "right", "", "then what it returned(row_upstream)"),
    ("policy_backward", "right", "", "policy_backward(logits, labels, row_upstream)"),
    ("loss_and_gradient", "right", "", "loss_and_gradient(logits, labels)"),
    ("WithAnAxisThatHasNoGradient", "right", "", "forward(context, logits, axis)"),
    ("InSetupContext", "right", "", "then backward(context, grad_output)"),
    ("CapaSoftmax", "right", "", "then hacia_atras(grad_output)"),
    ("LogSoftmaxOfBatches", "wrong", "", "right only for one row: its code is for batches"),
    ("gelu_backward", "not a backward of softmax", "", "something else by its name (gelu)"),
    ("agreement", "not a backward of softmax", "", "a number, not a gradient"),
    ("from_teacher", "could not be called", "", ""),
    ("grad_log_pi", "right", "", "the gradient of minus that"),
    ("PerdaDeSoftmax", "right", "", "__call__(logits, targets), then gradiente()"),
    ("GumbelSample", "not a backward of softmax", "", "something else by its name (gumbel)"),
    ("classifier_loss", "right", "", "the gradient of its weights"),
    ("classifier_loss_in_columns", "right", "", "features first"),
    ("classifier_loss_of_mean_and_sum", "wrong", "average_missing", ""),
    ("word_cost_and_gradient", "right, with a limit", "", "one vector [features] at a time"),
    ("attention_backward", "right", "", "the gradient of its queries"),
    ("attention_backward_of_diagonal", "wrong", "diagonal_only", "long_keys"),
    ("into_dx", "right", "", "into_dx(grad_output, probs, destination)"),
    ("backward_in_place_", "right, with a limit", "", "it works in place"),
    ("of_flat_buffers", "right", "", "arrays [batch * features]"),
    ("of_steps", "right", "", "of_steps(destination, row_upstream, probs, labels, one, batch, features)"),
    ("prints_and_returns_nothing", "could not be called", "", ""),
    ("in_a_dict", "right", "", "softmax and cross-entropy together"),
    ("vjp_of_answer", "right", "", "then what it returned(grad_output)"),
    ("vjp_of_loss", "right", "", "then what it returned(upstream)"),
    ("gradient_of_operation", "right", "", "gradient_of_operation(operation, grad_output)"),
    ("MaskedFunction", "right", "", "PyTorch tensors"),
    ("SmoothedLoss", "right", "", "softmax and cross-entropy together"),
    ("WeightedLoss", "right, with a limit", "", "equal weights of all classes only"),
    ("sequence_loss", "right, with a limit", "", "none that it ignores"),
    ("policy_gradient", "not a backward of softmax", "", "an agent's state"),
    ("ReturnsJacobiansOfWhatComesIn", "wrong", "", ""),
    ("GradientIsAsked.get_grad", "right", "", "softmax and cross-entropy together"),
    ("AttentionFunction", "right", "", "the gradient of its queries"),
    ("AutogradTensor.cross_entropy", "right", "", "softmax and cross-entropy together"),
    ("Softmaxschicht", "right", "", "then ableiten_auf_eingaben(grad_output)"),
    ("plus_epsilon", "right, with a limit", "", "inexact"),
    ("wrong_where_a_probability_is_small", "wrong", "", "is 0.1, expected"),
    ("LogSoftmax", "right", "", "the backward of log-softmax"),
    ("LogSoftmaxOfExponentials", "right, with a limit", "", "forward(logits), then backward(logits, grad_output)"),
    ("JacobiansBelowOneMaximum", "right, with a limit", "", "the Jacobian of softmax"),
    ("MeanOfElements", "right", "", "the gradient of the mean of the loss over all elements"),
    ("masked_entropy_backward", "right", "", "masked_entropy_loss(logits, targets, row_mask)"),
    ("average_over_elements_alone", "wrong", "averaged_over_elements", ""),
    ("delta_softmax", "wrong", "pass_through", ""),
    ("LogOfTheRest", "not a backward of softmax", "", "the derivative of its own forward"),
    ("distillation_loss", "not a backward of softmax", "", "2 numbers, not a gradient"),
    (
        "SquaresBehindSoftmax",
        "not a backward of softmax",
        "",
        "squared error, not of cross-entropy: by central differences",
    ),
    ("SquaresAlone", "not a backward of softmax", "", "squared error, not of cross-entropy\n"),
    ("NamedSoftmax", "right", "", "the backward of log-softmax"),
    ("WithTemperature", "right", "", "with a temperature of 2.5"),
    ("AsksForATemperature", "right", "", "with a temperature of 2"),
    ("of_logits_and_temperature", "right", "", "with a temperature of 3"),
    ("ForgetsItsTemperature", "wrong", "scaled", "with a temperature of 2.5"),
    ("jacobian_of_a_vector", "right, with a limit", "", "the Jacobian of softmax"),
    ("Sigmoid", "not a backward of softmax", "", "the sigmoid function, not softmax"),
    ("rows_softmax", "not a backward of softmax", "", "the forward of softmax, without a backward"),
    ("LeavesItsOutput", "not a backward of softmax", "", "the forward of softmax, without a backward"),
    ("SquaredError", "not a backward of softmax", "", "a squared error"),
    ("mse_prime", "not a backward of softmax", "", "a squared error"),
    ("LinearNamedSoftmax", "right", "", "the gradient of its last weights"),
    ("ForwardOnly.softmax", "not a backward of softmax", "", "the forward of softmax, without a backward"),
    ("sigmoid_prime", "not a backward of softmax", "", "the derivative of the sigmoid function, not softmax"),
    ("loss_value", "not a backward of softmax", "", "the value of a loss"),
    ("DiagonalWithoutMaximum", "wrong", "diagonal_only", "nan"),
    ("Network.dsigmoid", "not a backward of softmax", "", "by its name (dsigmoid)"),
    ("squares", "wrong", "sum_of_squares_outside", ""),
    ("elementwise", "wrong", "jacobian_elementwise", ""),
    ("SharedBuffer", "wrong", "shared_buffer", "share one array"),
    ("KeepsItsFirstOutput", "wrong", "state_kept", "depends on the calls before"),
    ("shifts_its_logits", "wrong", "overwrites_logits", "overwrites its input: logits"),
    ("entropy_backward", "right", "", "entropy_forward(logits, labels), then entropy_backward(cache)"),
    ("d_entropy_forward", "right", "", "entropy_forward(logits, labels), then d_entropy_forward(upstream, cache)"),
    ("of_a_cache_by_names", "right", "", "of_a_cache_by_names(grad_output, cache)"),
    ("with_a_mask_of_rows", "right", "", "row_mask"),
    ("with_a_number_of_classes", "right", "", "softmax and cross-entropy together"),
    ("of_labels_with_three_axes", "right", "", "[1, batch, features]"),
    ("InputsInAnAttribute", "right", "", "forward()"),
    ("ToldItsTargetsByItsLoss", "right", "", "loss(targets)"),
    ("LossOfTensors", "right", "", "the labels in a tensor of the file"),
    ("PrivateMethods", "right", "", "the backward of log-softmax"),
    ("Float32Only", "right, with a limit", "", "PyTorch tensors of float32"),
    ("grad_log_policy", "right, with a limit", "", "the logarithm of one class's probability"),
    ("with_a_reward", "right, with a limit", "", "the logarithm of one class's probability"),
    ("wrong_log_policy", "wrong", "", ""),
    ("binary_entropy_gradient", "not a backward of softmax", "", "binary cross-entropy"),
)
