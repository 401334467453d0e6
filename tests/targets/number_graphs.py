"""Graphs of numbers, layers for tensors whose class is elsewhere, losses told labels; ``NUMBERS`` lists them."""

import math

import numpy as np

# Name, what the report calls it, the mistake's name, and what the report says somewhere.
NUMBERS = (
    ("softmax_of_numbers", "right, with a limit", "", "every number in a tensor of the file"),
    ("loss_of_numbers", "right, with a limit", "", "every number in a tensor of the file"),
    ("OperationOnTensors", "right", "", "in tensors of the file"),
    ("DependsOn", "wrong", "diagonal_only", "the forward's arrays in tensors of the file"),
    ("LeavesGradients", "right", "", "every array as one that may have attributes"),
    ("SoftmaxThatLeavesGradients", "right", "", "every array as one that may have attributes"),
    ("LossToldLabels", "right", "", "get_loss(labels)"),
    ("LossAndGradient", "right", "", "forward(logits, labels)"),
    ("OnlyKeywords.grad", "right", "", "OnlyKeywords(features)"),
    ("StaticPair.backward", "right", "", "forward(context, logits, labels), then backward(context, upstream)"),
    ("attention_backward", "right", "", "attention_forward(logits, "),
    ("WithOneMaximum", "right, with a limit", "", "moderate logits only"),
    ("nonzero_is_target", "right, with a limit", "", "one incoming gradient, that of cross-entropy"),
    ("divided_by_the_last_axis", "right, with a limit", "", "for [batch, features] it is"),
    ("log_softmax_backward", "right", "", "the backward of log-softmax"),
)


class Number:
    def __init__(self, data, parents=()):
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self._backward = lambda: None

    def made(self, data, parents, slopes):
        out = Number(data, parents)

        def backward():
            for parent, slope in zip(parents, slopes, strict=True):
                parent.grad += slope * out.grad

        out._backward = backward
        return out

    def __add__(self, other):
        other = other if isinstance(other, Number) else Number(other)
        return self.made(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        other = other if isinstance(other, Number) else Number(other)
        return self.made(self.data * other.data, (self, other), (other.data, self.data))

    __radd__, __rmul__ = __add__, __mul__

    def exp(self):
        return self.made(math.exp(self.data), (self,), (math.exp(self.data),))

    def log(self):
        return self.made(math.log(self.data), (self,), (1 / self.data,))

    def inverse(self):
        return self.made(1 / self.data, (self,), (-1 / self.data**2,))

    def backward(self):
        order, seen = [], set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.grad = 1.0
        for node in reversed(order):
            node._backward()


def softmax_of_numbers(values):
    exps = [value.exp() for value in values]
    total = sum(exps).inverse()
    return [e * total for e in exps]


def loss_of_numbers(logits, target):
    return softmax_of_numbers(logits)[target].log() * -1.0


def rows_softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class OperationOnTensors:
    """The tensors that it takes are another file's."""

    def __call__(self, a):
        self.variables = (a,)
        return rows_softmax(a.data)

    def backward_var(self, grad, index):
        p = rows_softmax(self.variables[index].data)
        return p * (grad - (grad * p).sum(axis=-1, keepdims=True))


class DependsOn:
    def __call__(self, x):
        self.p = rows_softmax(x.data)
        kind = type(x)
        depends_on = [self.grad_fn] if x.requires_grad else []
        return kind(data=self.p, requires_grad=x.requires_grad, depends_on=depends_on)

    def grad_fn(self, grad):
        return grad * self.p * (1 - self.p)


class LeavesGradients:
    def __call__(self, inp, targ):
        self.inp, self.targ = inp, targ
        p = rows_softmax(inp)
        self.out = -np.log(p[np.arange(len(targ)), targ]).mean()
        return self.out

    def backward(self):
        p = np.asarray(rows_softmax(self.inp))
        inp = self.inp
        inp.g = (p - np.eye(p.shape[1])[self.targ]) / len(p)


class SoftmaxThatLeavesGradients:
    def __call__(self, inp):
        self.inp, self.out = inp, rows_softmax(inp)
        return self.out

    def backward(self):
        inp, out = self.inp, self.out
        inp.g = out * (out.g - (out * out.g).sum(axis=-1, keepdims=True))


class LossToldLabels:
    def forward(self, scores):
        self.p = rows_softmax(scores)
        return self.p

    def get_loss(self, label):
        self.hot = np.eye(self.p.shape[1])[label]
        return -(np.log(self.p) * self.hot).sum() / len(label)

    def backward(self):
        return (self.p - self.hot) / len(self.p)


class LossAndGradient:
    def forward(self, pred, target):
        p = rows_softmax(pred)
        hot = np.eye(p.shape[1])[target]
        return float(-np.log((p * hot).sum(axis=1)).mean()), (p - hot) / len(p)


class OnlyKeywords:
    """Labels are smoothed unless it is told not to."""

    def __init__(self, *, n_classes, label_smoothing=0.1):
        self.n_classes, self.label_smoothing = n_classes, label_smoothing

    def grad(self, *, logits, y):
        hot = np.full(logits.shape, self.label_smoothing / self.n_classes)
        hot[np.arange(len(y)), y] += 1.0 - self.label_smoothing
        return (rows_softmax(logits) - hot) / len(y)


class StaticPair:
    @staticmethod
    def forward(ctx, logits, labels):
        ctx.kept = rows_softmax(logits), labels
        return -np.log(ctx.kept[0][np.arange(len(labels)), labels]).mean()

    @staticmethod
    def backward(ctx, grad_output):
        p, labels = ctx.kept
        return grad_output * (p - np.eye(p.shape[1])[labels]) / len(p)


def attention_forward(Q, K, V):
    scale = 1 / np.sqrt(Q.shape[-1])
    p = rows_softmax(Q @ np.swapaxes(K, -1, -2) * scale)
    return p @ V, (K, V, p, scale)


def attention_backward(grad_out, cache):
    K, V, p, scale = cache
    dp = grad_out @ np.swapaxes(V, -1, -2)
    return p * (dp - (dp * p).sum(axis=-1, keepdims=True)) @ K * scale


class WithOneMaximum:
    def forward(self, scores, y_true):
        e = np.exp(scores - np.max(scores))
        self.p = e / (e.sum(axis=1, keepdims=True) + 1e-10)
        return -(y_true * np.log(self.p)).sum()

    def backward(self, y_true):
        return self.p - y_true


def nonzero_is_target(x, grad_outputs):
    return rows_softmax(x) - (grad_outputs != 0)


def divided_by_the_last_axis(y_true, y_pred):
    return -y_true / y_pred / y_pred.shape[-1]


def log_softmax_forward(a_curr):
    return (
        a_curr - a_curr.max(-1, keepdims=True) - np.log(np.exp(a_curr - a_curr.max(-1, keepdims=True)).sum(-1))[:, None]
    )


def log_softmax_backward(a_curr, h_curr, g_next):
    return g_next - np.exp(h_curr) * g_next.sum(axis=-1, keepdims=True)
