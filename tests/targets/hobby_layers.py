"""Softmax layers in the styles that hobby frameworks have, right and wrong ones; ``LAYERS`` says which is which."""

import math

import numpy as np


# Layers that keep their output and leave the gradient in an attribute.
class ActivationSoftmax:
    def forward(self, inputs):
        exponentials = np.exp(inputs - np.max(inputs, axis=1, keepdims=True))
        self.output = exponentials / np.sum(exponentials, axis=1, keepdims=True)

    def backward(self, dvalues):
        self.dinputs = np.empty_like(dvalues)
        for index, (single_output, single_dvalues) in enumerate(zip(self.output, dvalues, strict=True)):
            column = single_output.reshape(-1, 1)
            self.dinputs[index] = np.dot(np.diagflat(column) - np.dot(column, column.T), single_dvalues)


class ActivationSoftmaxDiagonal(ActivationSoftmax):
    def backward(self, dvalues):
        self.dinputs = self.output * (1 - self.output) * dvalues


class LossWithSoftmax:
    """Softmax and cross-entropy in one, its backward given the probabilities; targets as integers or one-hot."""

    def forward(self, inputs, y_true):
        exponentials = np.exp(inputs - np.max(inputs, axis=1, keepdims=True))
        self.output = exponentials / np.sum(exponentials, axis=1, keepdims=True)
        picked = self.output[range(len(inputs)), y_true] if y_true.ndim == 1 else (self.output * y_true).sum(axis=1)
        return np.mean(-np.log(picked))

    def backward(self, dvalues, y_true):
        samples = len(dvalues)
        if y_true.ndim == 2:
            y_true = np.argmax(y_true, axis=1)
        self.dinputs = dvalues.copy()
        self.dinputs[range(samples), y_true] -= 1
        self.dinputs = self.dinputs / samples


class CategoricalCrossEntropy:
    def forward(self, y_pred, y_true):
        return np.mean(-np.log(np.sum(y_pred * y_true, axis=1)))

    def backward(self, dvalues, y_true):
        self.dinputs = -y_true / dvalues / len(dvalues)


class CrossEntropyLossNotAveraged:
    def forward(self, logits, labels):
        shifted = logits - logits.max(axis=1, keepdims=True)
        self.probs = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        self.labels = labels
        return -np.log(self.probs[np.arange(len(labels)), labels]).mean()

    def backward(self):
        grad = self.probs.copy()
        grad[np.arange(len(self.labels)), self.labels] -= 1
        return grad


# Layers that return what they compute.
class Layer:
    def __init__(self):
        self.input = None
        self.output = None


class ColumnSoftmax(Layer):
    """One column vector at a time, with a learning rate that it does not need."""

    def forward(self, input):
        tmp = np.exp(input - input.max())
        self.output = tmp / np.sum(tmp)
        return self.output

    def backward(self, output_gradient, learning_rate):
        n = np.size(self.output)
        tmp = np.tile(self.output, n)
        return np.dot(tmp * (np.identity(n) - np.transpose(tmp)), output_gradient)


class StaticSoftmax:
    @staticmethod
    def forward(z):
        e = np.exp(z - np.max(z, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True)

    @staticmethod
    def backward(z, dA):
        s = StaticSoftmax.forward(z)
        return s * (dA - np.sum(dA * s, axis=-1, keepdims=True))


class CallAndGradient:
    """A callable with the elementwise derivative, to be multiplied by whoever calls it."""

    def __call__(self, x):
        e_x = np.exp(x - np.max(x, axis=-1, keepdims=True))
        return e_x / np.sum(e_x, axis=-1, keepdims=True)

    def gradient(self, x):
        p = self(x)
        return p * (1 - p)


class FeaturesFirst:
    """[features, batch], as in courses that write Z = W X + b."""

    def forward(self, Z):
        t = np.exp(Z - np.max(Z, axis=0))
        self.A = t / np.sum(t, axis=0)
        return self.A

    def backward(self, dA):
        return self.A * (dA - np.sum(dA * self.A, axis=0))


class PassThrough:
    def fprop(self, x):
        e = np.exp(x - x.max(1, keepdims=True))
        self.y = e / e.sum(1, keepdims=True)
        return self.y

    def bprop(self, grad):
        return grad


class OutputActivation:
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.out = e / e.sum(axis=1, keepdims=True)
        return self.out

    def backward(self, y):
        return self.out - y


class WithAxis:
    def __init__(self, axis):
        self.axis = axis

    def __call__(self, x):
        exps = np.exp(x - x.max(self.axis, keepdims=True))
        self.probs = exps / exps.sum(self.axis, keepdims=True)
        return self.probs

    def backprop(self, upstream):
        weighted = upstream * self.probs
        return weighted - self.probs * weighted.sum(self.axis, keepdims=True)


class Overflowing:
    def forward(self, x):
        self.out = np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True)
        return self.out

    def backward(self, grad):
        return self.out * (grad - (grad * self.out).sum(axis=1, keepdims=True))


class WholeBatch:
    def forward(self, x):
        e = np.exp(x - np.max(x))
        self.out = e / np.sum(e)
        return self.out

    def backward(self, grad):
        return self.out * (grad - np.sum(grad * self.out))


class InPlace:
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.out = e / e.sum(axis=1, keepdims=True)
        return self.out

    def backward(self, grad):
        grad -= (grad * self.out).sum(axis=1, keepdims=True)
        grad *= self.out
        return grad


class Accumulating:
    def __init__(self):
        self.grad = 0.0

    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.out = e / e.sum(axis=1, keepdims=True)
        return self.out

    def backward(self, grad):
        self.grad = self.grad + self.out * (grad - (grad * self.out).sum(axis=1, keepdims=True))
        return self.grad


class OddNames:
    """Nothing here has a usual name."""

    def squash(self, stuff):
        e = np.exp(stuff - stuff.max(axis=1, keepdims=True))
        self.kept = e / e.sum(axis=1, keepdims=True)

    def unsquash(self, stuff):
        self.answer = self.kept * (stuff - (stuff * self.kept).sum(axis=1, keepdims=True))
        self.scratch = stuff * 2


class RowOnly:
    """A row [1, features] at a time."""

    def forward(self, x):
        e = np.exp(x - np.max(x))
        self.s = e / e.sum()
        return self.s

    def backward(self, grad):
        s = self.s.reshape(-1, 1)
        return grad @ (np.diagflat(s) - s @ s.T)


class FunctionStyle:
    """Static methods that share a context."""

    @staticmethod
    def forward(ctx, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        out = e / e.sum(axis=1, keepdims=True)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, grad_output):
        (out,) = ctx.saved_tensors
        return out * (grad_output - (grad_output * out).sum(axis=1, keepdims=True))


# Tensors that remember how they were made.
class Tensor:
    def __init__(self, data, _children=()):
        self.data = np.asarray(data)
        self.grad = np.zeros_like(self.data)
        self._backward = lambda: None
        self._prev = set(_children)

    def softmax(self):
        e = np.exp(self.data - self.data.max(axis=-1, keepdims=True))
        out = Tensor(e / e.sum(axis=-1, keepdims=True), (self,))

        def _backward():
            dot = (out.grad * out.data).sum(axis=-1, keepdims=True)
            self.grad += out.data * (out.grad - dot)

        out._backward = _backward
        return out


class Value(Tensor):
    def softmax(self):
        e = np.exp(self.data - self.data.max(axis=-1, keepdims=True))
        out = Value(e / e.sum(axis=-1, keepdims=True), (self,))

        def _backward():
            self.grad += out.data * out.grad

        out._backward = _backward
        return out


def tensor_softmax(x):
    return x.softmax()


# Functions.
def softmax_forward(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    out = e / e.sum(axis=1, keepdims=True)
    return out, out


def softmax_backward(dout, cache):
    return cache * (dout - np.sum(dout * cache, axis=1, keepdims=True))


def backward_of_list(s, g):
    """Nested lists, plain Python."""
    rows = []
    for probs, grads in zip(s, g, strict=True):
        dot = sum(p * d for p, d in zip(probs, grads, strict=True))
        rows.append([p * (d - dot) for p, d in zip(probs, grads, strict=True)])
    return rows


def scalar_log_softmax_grad(a, b):
    """Names that say nothing, the gradient first."""
    return b * (a - np.einsum("ij,ij->i", a, b)[:, None])


def softmax_derivative(x):
    s = x.reshape(-1, 1)
    return np.diagflat(s) - np.dot(s, s.T)


def one_vector(softmax, grad):
    return softmax * (grad - np.dot(softmax, grad))


def loops(probs, grad):
    out = np.zeros_like(probs)
    for b in range(probs.shape[0]):
        for i in range(probs.shape[1]):
            for j in range(probs.shape[1]):
                delta = 1.0 if i == j else 0.0
                out[b, i] += grad[b, j] * probs[b, j] * (delta - probs[b, i])
    return out


def halved(probs, grad):
    return 0.5 * probs * (grad - (grad * probs).sum(1, keepdims=True))


def through_logs(x, dy):
    m = x.max(axis=1, keepdims=True)
    log_sum = m + np.log(np.exp(x - m).sum(axis=1, keepdims=True))
    p = np.exp(x - log_sum)
    return p * (dy - (p * dy).sum(axis=1, keepdims=True))


def nobody_knows(probs, grad):
    return np.tanh(probs) * grad + math.pi * probs**2


# Name, whether it is right, the mistake (empty: none known), options.
LAYERS = (
    ("ActivationSoftmax", True, "", {}),
    ("ActivationSoftmaxDiagonal", False, "diagonal_only", {}),
    ("LossWithSoftmax", True, "", {}),
    ("CategoricalCrossEntropy", True, "", {}),
    ("CrossEntropyLossNotAveraged", True, "average_missing", {}),
    ("ColumnSoftmax", True, "", {}),
    ("StaticSoftmax", True, "", {}),
    ("CallAndGradient", False, "diagonal_only_unmultiplied", {}),
    ("FeaturesFirst", True, "", {}),
    ("PassThrough", False, "pass_through", {}),
    ("OutputActivation", True, "", {}),
    ("WithAxis", True, "", {}),
    ("Overflowing", True, "exponential_overflows", {}),
    ("WholeBatch", True, "", {}),
    ("InPlace", False, "overwrites_grad_output", {}),
    ("Accumulating", False, "state_kept", {}),
    ("OddNames", True, "", {"forward": "squash", "backward": "unsquash", "result": "answer"}),
    ("RowOnly", True, "", {}),
    ("FunctionStyle", True, "", {}),
    ("Tensor", True, "", {}),
    ("Value", False, "outer_product_missing", {}),
    ("tensor_softmax", True, "", {}),
    ("softmax_backward", True, "", {}),
    ("backward_of_list", True, "", {}),
    ("scalar_log_softmax_grad", True, "", {}),
    ("softmax_derivative", True, "", {}),
    ("one_vector", True, "", {}),
    ("loops", True, "", {}),
    ("halved", False, "scaled", {}),
    ("through_logs", True, "", {}),
    ("nobody_knows", False, "", {}),
)
