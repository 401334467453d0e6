"""Layers, classifiers and networks with weights of their own, as people write them; ``MODELS`` says what each is."""

import itertools

import numpy as np

# Name, what the report calls it, the mistake's name, and what the report says somewhere.
MODELS = (
    ("DenseSoftmax", "right", "", "its weights were set to an identity matrix"),
    ("ChosenActivation", "wrong", "diagonal_only", "the identity matrix as weights"),
    ("OneGradientKnown", "right, with a limit", "", "one incoming gradient, that of cross-entropy"),
    ("OneGradientKnown.backprop", "right, with a limit", "", "one incoming gradient, that of cross-entropy"),
    ("BiasInARow", "right", "", "its weights were set to an identity matrix"),
    ("Regression", "right", "", "its data was an identity matrix"),
    ("Regression.gradient_of_the_sum", "right", "", "the sum of the loss"),
    ("FittedLater", "right, with a limit", "", "moderate logits only"),
    ("ColumnNetwork", "right, with a limit", "", "the logits, transposed as weights"),
    ("SigmoidNetwork", "right", "", "its data was an identity matrix"),
    ("TanhNetwork", "right", "", "its data was an identity matrix"),
    ("ReluNetwork", "right", "", "its data was an identity matrix"),
    ("ClimbingNetwork", "wrong", "wrong_sign", "the logits as weights"),
    ("numbered_backward", "right", "", "features first: arrays [features, batch]"),
    ("numbered_with_one_bias", "wrong", "wrong_bias", ""),
    ("whole_network", "right", "", "the gradient of its last weights"),
    ("train_epoch", "right, with a limit", "", "the update of the weights is taken"),
    ("train_network", "right", "", "the update of the weights is taken"),
    ("network_of_new_weights", "wrong", "wrong_sign", "the update of the weights is taken"),
    ("ToldItsPenalty", "right", "", "the gradient of its last weights"),
    ("new_weights", "right", "", "the update of the weights is taken"),
    ("with_a_penalty_of_its_own", "right, with a limit", "", "a penalty on the weights that it is not told to add"),
    ("with_a_wrong_penalty", "wrong", "wrong_penalty", ""),
    ("forgets_its_penalty", "wrong", "wrong_penalty", ""),
    ("counts_classes", "right, with a limit", "", "the highest label for the last class"),
    ("of_layer", "right, with a limit", "", "moderate logits only"),
    ("forgets_the_data", "wrong", "", ""),
    ("NetworkThatForgetsItsData", "wrong", "", ""),
)


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class DenseSoftmax:
    def __init__(self, n_in, n_out):
        self.W = drawn(n_in, n_out)
        self.b = np.zeros((1, n_out))

    def forward(self, x):
        self.x = x
        self.p = softmax(x @ self.W + self.b)
        return self.p

    def backward(self, dout, lr):
        dz = self.p * (dout - (dout * self.p).sum(axis=1, keepdims=True))
        dx = dz @ self.W.T
        self.W -= lr * self.x.T @ dz
        self.b -= lr * dz.sum(axis=0, keepdims=True)
        return dx


class ChosenActivation:
    def __init__(self, inputs, outputs, activation="relu"):
        self.weights = drawn(outputs, inputs)
        self.bias = np.zeros((outputs, 1))
        self.activation = activation

    def forward(self, x):
        z = self.weights @ x + self.bias
        self.out = np.maximum(z, 0) if self.activation == "relu" else softmax(z.T).T
        return self.out if self.activation in ("relu", "softmax") else z

    def backward(self, delta):
        return self.weights.T @ (delta * self.out * (1 - self.out))


class OneGradientKnown:
    """One vector at a time, and of what comes in one number is not 0."""

    def __init__(self, length, nodes):
        self.weights = drawn(length, nodes) / length
        self.biases = np.zeros(nodes)

    def forward(self, image):
        self.totals = image.flatten() @ self.weights + self.biases
        e = np.exp(self.totals)
        return e / e.sum()

    def backprop(self, d_out):
        e = np.exp(self.totals)
        (place,) = np.flatnonzero(d_out)[:1]
        d_totals = -e[place] * e / e.sum() ** 2
        d_totals[place] = e[place] * (e.sum() - e[place]) / e.sum() ** 2
        return self.weights @ (d_out[place] * d_totals)


class BiasInARow:
    def __init__(self, n_in, n_out):
        self.weights = drawn(n_in + 1, n_out)

    def forward(self, x):
        self.p = softmax(np.hstack((np.ones((len(x), 1)), x)) @ self.weights)
        return self.p

    def backward(self, grad):
        dz = self.p * (grad - (grad * self.p).sum(axis=1, keepdims=True))
        return dz @ self.weights[1:, :].T


class Regression:
    def __init__(self, learning_rate=0.1):
        self.learning_rate = learning_rate
        self.params = {"W": np.zeros((784, 10)), "b": np.zeros(10)}

    def forward(self, x):
        return softmax(x @ self.params["W"] + self.params["b"])

    def gradient(self, x, y, t, batch_size):
        return {"W": x.T @ (y - t) / batch_size, "b": (y - t).sum(axis=0) / batch_size}

    def gradient_of_the_sum(self, X, labels):
        delta = self.forward(X)
        delta[np.arange(len(X)), labels] -= 1
        return X.T @ delta, delta.sum(axis=0)


class FittedLater:
    def __init__(self, reg_lambda=0.5):
        self.reg_lambda = reg_lambda
        self.theta = None

    def fit(self, X, Y):
        self.theta = np.zeros((X.shape[1], Y.shape[1]))

    def gradient(self, X, Y):
        e = np.exp(X.dot(self.theta))
        h = e / e.sum(axis=1, keepdims=True)
        return -(Y * np.log(h)).sum() / len(X), X.T.dot(h - Y) / len(X) + self.reg_lambda * self.theta


class ColumnNetwork:
    """One column at a time."""

    def __init__(self, sizes):
        self.weights = [drawn(after, before) for before, after in itertools.pairwise(sizes)]
        self.biases = [drawn(after, 1) for after in sizes[1:]]

    def backprop(self, x, y):
        kept = [x]
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            kept.append(np.maximum(w @ kept[-1] + b, 0))
        z = self.weights[-1] @ kept[-1] + self.biases[-1]
        e = np.exp(z - z.max())
        delta = e / e.sum() - y
        nabla_w = [np.zeros(w.shape) for w in self.weights]
        for layer in range(1, len(self.weights) + 1):
            nabla_w[-layer] = delta @ kept[-layer].T
            delta = (self.weights[-layer].T @ delta) * (kept[-layer] > 0)
        return nabla_w


class SigmoidNetwork:
    def __init__(self, input_size, hidden_size, output_size):
        self.W1 = drawn(input_size, hidden_size)
        self.b1 = np.zeros(hidden_size)
        self.W2 = drawn(hidden_size, output_size)
        self.b2 = np.zeros(output_size)

    def sigmoid(self, z):
        return 1 / (1 + np.exp(-z))

    def forward_propagate(self, x_train):
        self.A1 = self.sigmoid(x_train @ self.W1 + self.b1)
        self.A2 = softmax(self.A1 @ self.W2 + self.b2)
        return self.A2

    def backward_propagate(self, x_train, y_train):
        delta = (self.A2 - y_train) / len(x_train)
        self.dW2 = self.A1.T @ delta
        self.dW1 = x_train.T @ (delta @ self.W2.T * self.A1 * (1 - self.A1))

    def predict(self, x):
        return self.forward_propagate(x).argmax(axis=1)


class TanhNetwork:
    """Its backward only updates the weights."""

    def __init__(self, n_x, n_h, n_y, lr=0.01):
        self.w1, self.w2 = drawn(n_x, n_h), drawn(n_h, n_y)
        self.lr = lr

    def forward(self, X):
        self.h = np.tanh(X @ self.w1)
        self.p = softmax(self.h @ self.w2)
        return self.p

    def backward(self, X, y):
        delta = (self.p - y) / len(X)
        d_hidden = delta @ self.w2.T * (1 - self.h**2)
        self.w2 = self.w2 - self.lr * self.h.T @ delta
        self.w1 = self.w1 - self.lr * X.T @ d_hidden


class ReluNetwork:
    def __init__(self, input_dim, hidden_dim, num_classes):
        self.params = {
            "W1": drawn(input_dim, hidden_dim),
            "b1": np.zeros(hidden_dim),
            "W2": drawn(hidden_dim, num_classes),
            "b2": np.zeros(num_classes),
        }

    def loss(self, X, y):
        h = np.maximum(X @ self.params["W1"] + self.params["b1"], 0)
        p = softmax(h @ self.params["W2"] + self.params["b2"])
        loss = -np.log(p[np.arange(len(y)), y]).mean()
        delta = p.copy()
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)
        d_h = delta @ self.params["W2"].T * (h > 0)
        return loss, {"W2": h.T @ delta, "b2": delta.sum(0), "W1": X.T @ d_h, "b1": d_h.sum(0)}


class ClimbingNetwork(TanhNetwork):
    """It goes up where it means to go down."""

    def backward(self, X, y):
        self.w2 = self.w2 - self.lr * self.h.T @ (y - self.p) / len(X)


def numbered_backward(Z1, A1, Z2, A2, W1, W2, X, Y):
    m = Y.size
    dZ2 = A2 - np.eye(A2.shape[0])[Y].T
    dZ1 = W2.T.dot(dZ2) * (Z1 > 0)
    return dZ1.dot(X.T) / m, dZ1.sum(axis=1) / m, dZ2.dot(A1.T) / m, dZ2.sum(axis=1) / m


def numbered_with_one_bias(Z1, A1, Z2, A2, W1, W2, X, Y):
    m = Y.size
    dZ2 = A2 - np.eye(A2.shape[0])[Y].T
    dZ1 = W2.T.dot(dZ2) * (Z1 > 0)
    return dZ1.dot(X.T) / m, np.sum(dZ1) / m, dZ2.dot(A1.T) / m, np.sum(dZ2) / m


def whole_network(X, Y, W1, b1, W2, b2):
    hidden = 1 / (1 + np.exp(-(X @ W1 + b1)))  # sigmoid
    delta = (softmax(hidden @ W2 + b2) - Y) / len(X)
    d_hidden = delta @ W2.T * hidden * (1 - hidden)
    return {"dW1": X.T @ d_hidden, "db1": d_hidden.sum(0), "dW2": hidden.T @ delta, "db2": delta.sum(0)}


def train_epoch(X, y, theta, lr=0.1, batch=100):
    for start in range(0, len(X), batch):
        rows = slice(start, start + batch)
        e = np.exp(X[rows] @ theta)
        delta = e / e.sum(axis=1, keepdims=True)
        delta[np.arange(len(delta)), y[rows]] -= 1
        theta -= lr * X[rows].T @ delta / batch


def train_network(X, y, W1, W2, lr=0.1, batch=100):
    for start in range(0, len(X), batch):
        rows = slice(start, start + batch)
        hidden = np.maximum(X[rows] @ W1, 0)
        delta = softmax(hidden @ W2)
        delta[np.arange(len(delta)), y[rows]] -= 1
        d_hidden = delta @ W2.T * (hidden > 0)
        W1 -= lr * X[rows].T @ d_hidden / batch
        W2 -= lr * hidden.T @ delta / batch


def network_of_new_weights(X, y, W1, W2, lr):
    hidden = np.maximum(X @ W1, 0)
    delta = softmax(hidden @ W2)
    delta[np.arange(len(delta)), y] -= 1
    return W1 - lr * X.T @ (delta @ W2.T * (hidden > 0)) / len(X), W2 + lr * hidden.T @ delta / len(X)  # uphill


class ToldItsPenalty:
    def __init__(self, classes, lr, reg_const):
        self.w = self.b = None
        self.lr, self.reg_const = lr, reg_const

    def calc_gradient(self, X_train, y_train):
        delta = softmax(X_train @ self.w + self.b)
        delta[np.arange(len(delta)), y_train] -= 1
        return X_train.T @ delta / len(delta) + self.reg_const * self.w, delta.mean(axis=0)


def new_weights(X, y, y_pred, pesos, tasa=0.01, lambda_reg=0.3):
    return pesos - tasa * (X.T @ (y_pred - y) / len(X) + lambda_reg * pesos)


def with_a_penalty_of_its_own(W, X, y):
    delta = softmax(X @ W)
    delta[np.arange(len(y)), y] -= 1
    return X.T @ delta / len(y) + 2 * 0.1 * W


def with_a_wrong_penalty(W, X, y, reg):
    delta = softmax(X @ W)
    delta[np.arange(len(y)), y] -= 1
    return X.T @ delta / len(y) + 2 * reg * W.sum()


def forgets_its_penalty(W, X, y, reg):
    probs, rows = softmax(X @ W), np.arange(len(y))
    loss = -np.log(probs[rows, y]).mean() + 0.5 * reg * (W**2).sum()
    probs[rows, y] -= 1
    return loss, X.T @ probs / len(y)


def counts_classes(theta, X, labels):
    hot = np.eye(labels.max() + 1)[labels]
    return X.T @ (softmax(X @ theta) - hot) / len(labels)


def of_layer(A, W, b, Y):
    z = W @ A + b
    e = np.exp(z - z.max())
    delta = (e / e.sum(axis=0) - Y) / A.shape[1]
    return W.T @ delta, delta @ A.T, delta.sum(axis=1, keepdims=True)


def forgets_the_data(W, X, y, reg):
    scores = X @ W
    probs = softmax(scores)
    loss = -np.log(probs[np.arange(len(y)), y]).mean() + 0.5 * reg * (W * W).sum()
    dW = X.T @ probs
    dW[range(len(y)), y] -= 1
    return loss, dW / len(y) + reg * W


class NetworkThatForgetsItsData:
    def __init__(self):
        self.W = np.zeros((784, 10))

    def forward(self, X):
        return softmax(X @ self.W)

    def gradient(self, X, y):
        dW = X.T @ self.forward(X)
        dW[np.arange(len(y)), y] -= 1
        return dW / len(y)
