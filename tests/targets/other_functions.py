"""Backwards of other functions than softmax, right and wrong ones, each beside its own forward."""

import numpy as np


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def vjp(probs, grad):
    return probs * (grad - (grad * probs).sum(axis=-1, keepdims=True))


class Softmin:
    def forward(self, x):
        self.probs = softmax(-x)
        return self.probs

    def backward(self, grad):
        return -vjp(self.probs, grad)


class ForgetsItsSign(Softmin):
    def backward(self, grad):
        return vjp(self.probs, grad)


class GivesOneArray(Softmin):
    def forward(self, x):
        self.probs = self.__dict__.setdefault("buffer", np.empty_like(x))
        self.probs[...] = softmax(-x)
        return self.probs


class WithNoise(Softmin):
    def forward(self, x):
        return super().forward(x + np.random.default_rng().standard_normal(x.shape))


class Sparsemax:
    def forward(self, x):
        falling = np.sort(x, axis=1)[:, ::-1]
        sums = np.cumsum(falling, axis=1)
        count = (1 + np.arange(1, x.shape[1] + 1) * falling > sums).sum(axis=1)
        threshold = (sums[np.arange(len(x)), count - 1] - 1) / count
        self.output = np.maximum(x - threshold[:, None], 0)
        return self.output

    def backward(self, grad):
        kept = self.output > 0
        return kept * (grad - (grad * kept).sum(axis=1, keepdims=True) / kept.sum(axis=1, keepdims=True))


class Focal:
    def __init__(self, gamma=2.0):
        self.gamma = gamma

    def forward(self, logits, labels):
        self.probs, self.labels = softmax(logits), labels
        self.of_label = self.probs[np.arange(len(labels)), labels]
        return (-((1 - self.of_label) ** self.gamma) * np.log(self.of_label)).mean()

    def backward(self):
        rest, p = 1 - self.of_label, self.of_label
        slope = self.gamma * rest ** (self.gamma - 1) * np.log(p) - rest**self.gamma / p
        one_hot = np.eye(self.probs.shape[1])[self.labels]
        return (slope * p)[:, None] * (one_hot - self.probs) / len(p)


class ForgetsAFactor(Focal):
    def backward(self):
        return super().backward() / (1 - self.of_label)[:, None]


class NegativeLogLikelihood:
    def forward(self, log_probs, y):
        self.shape, self.y = log_probs.shape, y
        return -log_probs[np.arange(len(y)), y].mean()

    def backward(self):
        grad = np.zeros(self.shape)
        grad[np.arange(len(self.y)), self.y] = -1 / len(self.y)
        return grad


class Entropy:
    def forward(self, x):
        self.probs = softmax(x)
        self.values = -(self.probs * np.log(self.probs)).sum(axis=1)
        return self.values

    def backward(self, grad):
        return -self.probs * (np.log(self.probs) + self.values[:, None]) * grad[:, None]


class Attention:
    def __init__(self, dim):
        self.scale = 1 / np.sqrt(dim)
        self.query, self.key, self.value = np.random.default_rng().standard_normal((3, dim, dim))

    def forward(self, x):
        self.q, self.k, self.v = x @ self.query, x @ self.key, x @ self.value
        self.probs = softmax(self.q @ self.k.swapaxes(-1, -2) * self.scale)
        return self.probs @ self.v

    def backward(self, grad):
        scores = vjp(self.probs, grad @ self.v.swapaxes(-1, -2)) * self.scale
        of_values = self.probs.swapaxes(-1, -2) @ grad @ self.value.T
        return scores @ self.k @ self.query.T + scores.swapaxes(-1, -2) @ self.q @ self.key.T + of_values


class ReturnsNothing(Attention):
    def __init__(self, dim):
        super().__init__(dim)
        self.Wq, self.Wk = self.query, self.key

    def forward(self, x):
        self.x, q, k = x, x @ self.Wq, x @ self.Wk
        self.probs = softmax(q @ k.swapaxes(-1, -2) * self.scale)
        return self.probs

    def backward(self, grad):
        scores = vjp(self.probs, grad) * self.scale
        self.dWq = self.x.swapaxes(-1, -2) @ scores @ self.x @ self.Wk


def cubed_forward(x):
    probs = softmax(x)
    return probs**3, probs


def cubed_backward(grad, cache):
    return vjp(cache, 3 * cache**2 * grad)


def softmin_backward(grad, probs):
    return -vjp(probs, grad)


def entropy_gradient(probs):
    logs = np.log(probs)
    return -probs * (logs - (probs * logs).sum(axis=1, keepdims=True))
