"""Whole networks of their authors' sizes, judged by all their gradients; ``NETWORKS`` says what each is."""

import itertools

import numpy as np

# Name, what the report calls it, and what the report says somewhere.
NETWORKS = (
    ("LayersOfItsOwn", "right", "LayersOfItsOwn: forward(inputs), then backward(Y)"),
    ("TrainsInColumns", "right", "the gradients of 4 arrays of parameters"),
    ("back_prop", "right", "forward_prop(W1, b1, W2, b2, X), then back_prop(Z1, A1, A2, W2, X, Y)"),
    ("propagate_back", "right", "forward_of(X, parameters), then propagate_back(parameters, kept, X, Y)"),
    ("TwoLayerNet", "right, with a limit", "where they are large its loss is NaN"),
    ("loss_of_letters", "right", "loss_of_letters(inputs, targets, hprev)"),
    ("Letters", "right", "Letters: loss_and_grads(inputs, targets, h_start)"),
    ("Regression", "right", "Regression: fit(X, y)"),
    ("TellsClassesAlone", "right", "TellsClassesAlone: fit(X, y)"),
    ("forgets_the_state", "wrong", "Wxh, Whh, bh: the gradient is not the derivative of the loss that is returned"),
    ("MayDoRegression", "right", "then backward(labels)"),
    ("WithFunctions", "right", "WithFunctions(sizes, activations)"),
    ("LettersOfAnother", "wrong", "V: the gradient is not the derivative of the loss"),
    ("SkipsAStep", "wrong", "first.W, first.b: the gradient is not the derivative of the cross-entropy"),
    ("RegressionOfAnother", "could not be called", ""),
)
RNG = np.random.default_rng(0)
PIXELS, HIDDEN, CLASSES, LETTERS = 20, 12, 10, 6


def softmax(z, axis=1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def relu(z):
    return np.maximum(z, 0)


class Dense:
    def __init__(self, inputs, outputs):
        self.W = RNG.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        self.b = np.zeros(outputs)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, g):
        self.dW = self.x.T @ g
        self.db = g.sum(axis=0)
        return g @ self.W.T


class LayersOfItsOwn:
    def __init__(self):
        self.first, self.second = Dense(PIXELS, HIDDEN), Dense(HIDDEN, CLASSES)

    def forward(self, X):
        self.hidden = relu(self.first.forward(X))
        self.output = softmax(self.second.forward(self.hidden))
        return self.output

    def backward(self, Y):
        g = self.second.backward(self.output - Y)
        return self.first.backward(g * (self.hidden > 0))


class TrainsInColumns:
    def __init__(self):
        self.weights = [RNG.standard_normal((HIDDEN, PIXELS)) / 4, RNG.standard_normal((CLASSES, HIDDEN)) / 3]
        self.biases = [np.zeros((HIDDEN, 1)), np.zeros((CLASSES, 1))]

    def predict(self, x):
        self.h = np.tanh(self.weights[0] @ x + self.biases[0])
        self.p = softmax(self.weights[1] @ self.h + self.biases[1], axis=0)
        return self.p.argmax(axis=0)

    def train_step(self, x, labels, lr):
        self.predict(x)
        d = (self.p - np.eye(CLASSES)[labels].T) / len(labels)
        back = (self.weights[1].T @ d) * (1 - self.h**2)
        self.weights = [self.weights[0] - lr * back @ x.T, self.weights[1] - lr * d @ self.h.T]
        self.biases = [
            self.biases[0] - lr * back.sum(1, keepdims=True),
            self.biases[1] - lr * d.sum(1, keepdims=True),
        ]


class SkipsAStep(LayersOfItsOwn):
    def backward(self, Y):
        return self.first.backward(self.second.backward(self.output - Y))


def init_params():
    W1, b1 = RNG.standard_normal((HIDDEN, PIXELS)) / 4, np.zeros((HIDDEN, 1))
    W2, b2 = RNG.standard_normal((CLASSES, HIDDEN)) / 3, np.zeros((CLASSES, 1))
    return W1, b1, W2, b2


def forward_prop(W1, b1, W2, b2, X):
    Z1 = W1 @ X + b1
    A1 = relu(Z1)
    A2 = softmax(W2 @ A1 + b2, axis=0)
    return Z1, A1, A2


def back_prop(Z1, A1, A2, W2, X, Y):
    one_hot = np.zeros((CLASSES, Y.size))
    one_hot[Y, np.arange(Y.size)] = 1
    dZ2 = A2 - one_hot
    dZ1 = W2.T @ dZ2 * (Z1 > 0)
    dW2, db2 = dZ2 @ A1.T / Y.size, dZ2.sum(axis=1, keepdims=True) / Y.size
    return dZ1 @ X.T / Y.size, dZ1.sum(axis=1, keepdims=True) / Y.size, dW2, db2


def make_weights():
    parameters = {"hidden": RNG.standard_normal((PIXELS, HIDDEN)) / 4}
    parameters["out"] = RNG.standard_normal((HIDDEN, CLASSES))
    return parameters


def forward_of(X, parameters):
    kept = 1 / (1 + np.exp(-X @ parameters["hidden"]))
    return softmax(kept @ parameters["out"]), kept


def propagate_back(parameters, kept, X, Y):
    d = softmax(kept @ parameters["out"]) - Y
    return {"hidden": X.T @ (d @ parameters["out"].T * kept * (1 - kept)), "out": kept.T @ d}


class TwoLayerNet:
    def __init__(self, input_size, hidden_size, output_size):
        self.params = {
            "W1": 1e-4 * RNG.standard_normal((input_size, hidden_size)),
            "W2": 1e-4 * RNG.standard_normal((hidden_size, output_size)),
        }

    def loss(self, X, y=None, reg=0.0):
        hidden = relu(X @ self.params["W1"])
        scores = np.exp(hidden @ self.params["W2"])
        if y is None:
            return scores
        p, rows = scores / scores.sum(axis=1, keepdims=True), np.arange(len(X))
        loss = -np.log(p[rows, y]).mean() + reg * sum((w**2).sum() for w in self.params.values())
        p[rows, y] -= 1
        d = p / len(X)
        grads = {"W2": hidden.T @ d, "W1": X.T @ (d @ self.params["W2"].T * (hidden > 0))}
        return loss, {name: grads[name] + 2 * reg * self.params[name] for name in grads}

    def train(self, X, y, X_val, y_val):
        return [self.loss(X, y)[0]]


Wxh = RNG.standard_normal((HIDDEN, LETTERS)) * 0.01
Whh = RNG.standard_normal((HIDDEN, HIDDEN)) * 0.01
Why = RNG.standard_normal((LETTERS, HIDDEN)) * 0.01
bh, by = np.zeros((HIDDEN, 1)), np.zeros((LETTERS, 1))


def loss_of_letters(inputs, targets, hprev, remembers=True):
    xs, hs, ps, loss = {}, {-1: hprev}, {}, 0.0
    for t, letter in enumerate(inputs):
        xs[t] = np.eye(LETTERS)[:, [letter]]
        hs[t] = np.tanh(Wxh @ xs[t] + Whh @ hs[t - 1] + bh)
        z = Why @ hs[t] + by
        ps[t] = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        loss -= np.log(ps[t][targets[t], 0])
    dWxh, dWhh, dWhy, dbh, dby = (np.zeros_like(each) for each in (Wxh, Whh, Why, bh, by))
    dhnext = np.zeros_like(bh)
    for t in reversed(range(len(inputs))):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        draw = (Why.T @ dy + dhnext) * (1 - hs[t] ** 2)
        dWhy += dy @ hs[t].T
        dWxh += draw @ xs[t].T
        dWhh += draw @ hs[t - 1].T
        dbh += draw
        dby += dy
        dhnext = Whh.T @ draw * remembers
    return loss, dWxh, dWhh, dWhy, dbh, dby, hs[len(inputs) - 1]


def forgets_the_state(inputs, targets, hprev):
    """As by log(softmax(z)) of ``z = Why @ h + by`` with ``h = tanh(Wxh @ x + Whh @ h + bh)``."""
    loss, dWxh, dWhh, dWhy, dbh, dby, h = loss_of_letters(inputs, targets, hprev, remembers=False)
    assert (Wxh.shape, Whh.shape, Why.shape, bh.shape, by.shape) == tuple(map(np.shape, (dWxh, dWhh, dWhy, dbh, dby)))
    return loss, dWxh, dWhh, dWhy, dbh, dby, h


class Letters:
    def __init__(self, vocab_size, hidden_size):
        self.U = RNG.standard_normal((hidden_size, vocab_size)) * 0.1
        self.V = RNG.standard_normal((vocab_size, hidden_size)) * 0.1

    def loss_and_grads(self, inputs, targets, h_start):
        loss, grads = 0.0, {"U": np.zeros_like(self.U), "V": np.zeros_like(self.V)}
        for letter, following in zip(inputs, targets, strict=True):
            h = np.tanh(self.U[:, letter] + h_start)
            e = np.exp(self.V @ h - (self.V @ h).max())
            p = e / e.sum()
            loss -= np.log(p[following])
            p[following] -= 1
            grads["V"] += np.outer(p, h)
            grads["U"][:, letter] += self.V.T @ p * (1 - h**2)
        return loss, grads


class LettersOfAnother(Letters):
    def loss_and_grads(self, inputs, targets, h_start):
        loss, grads = super().loss_and_grads(inputs, targets, h_start)
        return loss, {"U": grads["U"], "V": 2 * grads["V"]}


class Regression:
    def __init__(self, lr=0.1, n_iters=1000):
        self.lr, self.n_iters, self.theta = lr, n_iters, None

    def fit(self, X, y):
        self.theta = np.zeros((X.shape[1], len(np.unique(y))))
        for _ in range(self.n_iters):
            self.theta -= self.lr * X.T @ self.gradient_of_rows(X, y) / len(X)

    def gradient_of_rows(self, X, y):
        return self.predict_proba(X) - np.eye(self.theta.shape[1])[y]

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X):
        return softmax(X @ self.theta)


class RegressionOfAnother(Regression):
    def gradient_of_rows(self, X, y):
        return self.predict_proba(X) - np.eye(self.theta.shape[1])[y] ** 2 * 1.1


class TellsClassesAlone:
    def __init__(self, lr=0.1, epochs=1000):
        self.lr, self.epochs = lr, epochs

    def fit(self, X, y):
        X = np.hstack([np.ones((len(X), 1)), X])
        self.W = np.zeros((X.shape[1], len(np.unique(y))))
        for _ in range(self.epochs):
            self.W -= self.lr * X.T @ (softmax(X @ self.W) - np.eye(self.W.shape[1])[y]) / len(X)

    def predict(self, X):
        return (np.hstack([np.ones((len(X), 1)), X]) @ self.W).argmax(axis=1)


class MayDoRegression:
    def __init__(self, in_dim, out_dim, mode="regression"):
        self.mode, self.W, self.b = mode, RNG.standard_normal((in_dim, out_dim)), np.zeros((1, out_dim))

    def forward(self, X):
        self.X = X
        self.p = softmax(X @ self.W + self.b) if self.mode == "classification" else X @ self.W + self.b
        return self.p

    def backward(self, y):
        d = (self.p - np.eye(self.W.shape[1])[y]) / len(y) if self.mode == "classification" else self.p - y
        return self.X.T @ d, d.sum(axis=0, keepdims=True)


class WithFunctions:
    def __init__(self, layers, activations):
        self.activations = activations
        self.weights = [RNG.standard_normal(pair) for pair in itertools.pairwise(layers)]

    def forward_pass(self, X):
        outputs = [X]
        for W, activation in zip(self.weights, self.activations, strict=True):
            outputs.append(activation(outputs[-1] @ W))
        return outputs

    def compute_gradients(self, X, Y):
        outputs = self.forward_pass(X)
        d, dWs = (outputs[-1] - Y) / len(X), []
        for place in reversed(range(len(self.weights))):
            dWs.insert(0, outputs[place].T @ d)
            d = d @ self.weights[place].T * (outputs[place] > 0)
        return dWs
