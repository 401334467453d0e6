"""Networks that are handed their parameters, or the gradient of their loss; ``NETWORKS`` says what each is."""

import numpy as np

# Name, what the report calls it, and what the report says somewhere.
NETWORKS = (
    ("two_layer_net", "right, with a limit", "two_layer_net(X, model, y)"),
    ("FlatWeights.softmaxCost", "right, with a limit", "FlatWeights: softmaxCost(theta, data, labels)"),
    (
        "backward_of_costs",
        "right, with a limit",
        "forward_of_costs(X, W1, W2), then backward_of_costs(AL, Y, A1, W2, X)",
    ),
    ("backward_of_scalars", "wrong", "b1, b2: the gradient is not the derivative of the cross-entropy"),
    ("Reader", "right", "softmax and cross-entropy put behind it"),
    ("Listener", "right", "Listener: forward(inputs), then backward(grad_output)"),
    ("ListensToOthers", "right", "ListensToOthers: forward(inputs), then backward(grad_output)"),
    ("ListensToThemWrongly", "wrong", "Wq, Wk: the gradient is not the derivative of the cross-entropy"),
    ("NormalisesInTraining", "right", "NormalisesInTraining: forward(inputs), then backward(X, y)"),
    ("ReturnsNothing", "right", "ReturnsNothing: forward(inputs), then backward(grad_output)"),
    ("ForgetsItsSlope", "wrong", "W1: the gradient is not the derivative of the cross-entropy"),
    ("Chain", "right", "Chain: forward(inputs), then backward(x)"),
    ("Stack", "wrong", "stacked[0].params.W, stacked[0].params.b: the gradient is not"),
    ("WindowReader.loss_and_grads", "right", "WindowReader: loss_and_grads(x, y)"),
    ("MadeLater.train_step", "right", "MadeLater: train_step(x_train, y_train)"),
    ("DecaysItsFirstWeights", "right", "the gradient of its last weights"),
    ("LimitsItsFirstGradient", "right", "the gradient of its last weights"),
    ("TrainsItsLastWeights", "right", "the gradient of its last weights"),
    ("CallsARightPart", "wrong", "W1: the gradient is not the derivative of the cross-entropy"),
    ("OneLayer", "not a backward of softmax", "the derivative of its own forward"),
)
RNG = np.random.default_rng(0)
LETTERS, WIDTH = 6, 4


def softmax(z, axis=-1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def two_layer_net(X, model, y=None, reg=0.0):
    hidden = np.maximum(X @ model["W1"] + model["b1"], 0)
    scores = hidden @ model["W2"] + model["b2"]
    if y is None:
        return scores
    p, rows = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), np.arange(len(X))
    loss = -np.log(p[rows, y]).mean() + 0.5 * reg * ((model["W1"] ** 2).sum() + (model["W2"] ** 2).sum())
    p[rows, y] -= 1
    back = p @ model["W2"].T / len(X) * (hidden > 0)
    grads = {"W2": hidden.T @ p / len(X) + reg * model["W2"], "b2": p.mean(axis=0)}
    return loss, grads | {"W1": X.T @ back + reg * model["W1"], "b1": back.sum(axis=0)}


class FlatWeights:
    def __init__(self, input_size, num_classes):
        self.input_size, self.num_classes = input_size, num_classes
        self.theta = 0.005 * RNG.standard_normal((num_classes * input_size, 1))

    def softmaxCost(self, theta, data, labels):
        theta = theta.reshape(self.num_classes, self.input_size)
        truth = np.eye(labels.max() + 1)[labels].T
        p = np.exp(theta @ data) / np.exp(theta @ data).sum(axis=0)
        cost = -(truth * np.log(p)).sum() / data.shape[1]
        return [cost, ((p - truth) @ data.T / data.shape[1]).flatten()]


# The loss is its author's own: of each class by itself, behind a softmax.
def forward_of_costs(X, W1, W2):
    A1 = np.tanh(W1 @ X)
    return softmax(W2 @ A1, axis=0), A1


def compute_cost(AL, Y):
    return -np.sum(Y * np.log(AL) + (1 - Y) * np.log(1 - AL)) / Y.shape[1]


def backward_of_costs(AL, Y, A1, W2, X):
    slopes = -(Y / AL - (1 - Y) / (1 - AL)) / Y.shape[1]
    d = AL * (slopes - (slopes * AL).sum(axis=0, keepdims=True))
    return (W2.T @ d * (1 - A1**2)) @ X.T, d @ A1.T


# One number for all elements of a bias.
def forward_of_scalars(X, W1, b1, W2, b2):
    Z1 = W1 @ X + b1
    A1 = np.maximum(Z1, 0)
    return Z1, A1, softmax(W2 @ A1 + b2, axis=0)


def backward_of_scalars(Z1, A1, A2, W2, X, Y):
    m = Y.size
    dZ2 = A2 - np.eye(len(A2))[Y].T
    dZ1 = W2.T @ dZ2 * (Z1 > 0)
    dW2, db2 = dZ2 @ A1.T / m, np.sum(dZ2) / m
    dW1, db1 = dZ1 @ X.T / m, np.sum(dZ1) / m
    return dW1, db1, dW2, db2


class Part:
    def __init__(self, rows, columns):
        self.params = {"W": 0.02 * RNG.standard_normal((rows, columns)), "b": np.zeros(columns)}
        self.grads = {name: np.zeros_like(array) for name, array in self.params.items()}

    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, d):
        self.grads["W"] += self.x.reshape(-1, self.x.shape[-1]).T @ d.reshape(-1, d.shape[-1])
        self.grads["b"] += d.reshape(-1, d.shape[-1]).sum(axis=0)
        return d @ self.params["W"].T


class Reader:
    """It reads letters [B, T], and gives the logits of the next ones [B, T, K]."""

    def __init__(self):
        self.table, self.table_grad = RNG.standard_normal((LETTERS, WIDTH)), np.zeros((LETTERS, WIDTH))
        self.parts = [Part(WIDTH, WIDTH), Part(WIDTH, LETTERS)]

    def forward(self, idx):
        self.idx, self.hidden = idx, np.tanh(self.parts[0].forward(self.table[idx]))
        return self.parts[1].forward(self.hidden)

    def backward(self, dlogits):
        d = self.parts[0].backward(self.parts[1].backward(dlogits) * (1 - self.hidden**2))
        np.add.at(self.table_grad, self.idx, d)


class Listener:
    """Attention of sequences [B, T, D] to themselves, with weights of its own."""

    def __init__(self, dim):
        self.Wq, self.Wk, self.Wv = (RNG.standard_normal((dim, dim)) for _ in range(3))

    def forward(self, x):
        self.x, (self.q, self.k, self.v) = x, (x @ each for each in (self.Wq, self.Wk, self.Wv))
        self.p = softmax(self.q @ self.k.transpose(0, 2, 1))
        return self.p @ self.v

    def backward(self, grad_output):
        dp = grad_output @ self.v.transpose(0, 2, 1)
        ds = self.p * (dp - (dp * self.p).sum(axis=-1, keepdims=True))
        dq, dk, dv = ds @ self.k, ds.transpose(0, 2, 1) @ self.q, self.p.transpose(0, 2, 1) @ grad_output
        self.dWq, self.dWk, self.dWv = (np.einsum("btd,bte->de", self.x, each) for each in (dq, dk, dv))
        return dq @ self.Wq.T + dk @ self.Wk.T + dv @ self.Wv.T


class ListensToOthers(Listener):
    """The same with queries, keys and values of their own."""

    def forward(self, query, key, value, mask):
        self.of_q, self.of_k, self.of_v = query, key, value
        self.q, self.k, self.v = query @ self.Wq, key @ self.Wk, value @ self.Wv
        self.p = softmax(self.q @ self.k.transpose(0, 2, 1) + (0 if mask is None else mask))
        return self.p @ self.v

    def backward(self, grad_output):
        dv = self.p.transpose(0, 2, 1) @ grad_output
        ds = self.of_scores(grad_output @ self.v.transpose(0, 2, 1))
        dq, dk = ds @ self.k, ds.transpose(0, 2, 1) @ self.q
        self.dWq, self.dWk = np.einsum("btd,bte->de", self.of_q, dq), np.einsum("btd,bte->de", self.of_k, dk)
        self.dWv = np.einsum("btd,bte->de", self.of_v, dv)
        return dq @ self.Wq.T, dk @ self.Wk.T, dv @ self.Wv.T

    def of_scores(self, dp):
        return self.p * (dp - (dp * self.p).sum(axis=-1, keepdims=True))


class ListensToThemWrongly(ListensToOthers):
    """It takes the diagonal of softmax's Jacobian alone."""

    def of_scores(self, dp):
        return self.p * (1 - self.p) * dp


class NormalisesInTraining:
    """What it learns it has to be told; else it takes the mean that it saw in training."""

    def __init__(self, input_size, output_size):
        self.W1 = RNG.standard_normal((input_size, input_size))
        self.W2 = RNG.standard_normal((input_size, output_size))
        self.mean = np.zeros(input_size)

    def forward(self, X, training=False):
        hidden = X @ self.W1
        self.centred = hidden - (hidden.mean(axis=0) if training else self.mean)
        self.p = softmax(np.tanh(self.centred) @ self.W2)
        return self.p

    def backward(self, X, y):
        d = (self.p - y) / len(X)
        back = d @ self.W2.T * (1 - np.tanh(self.centred) ** 2)
        dW2, dW1 = np.tanh(self.centred).T @ d, X.T @ (back - back.mean(axis=0))
        return dW1, dW2


class ReturnsNothing:
    """Its forward leaves the probabilities in it."""

    def __init__(self, dim):
        self.Wq, self.Wv = (0.01 * RNG.standard_normal((dim, dim)) for _ in range(2))

    def forward(self, x):
        self.x, self.q = x, np.tanh(x @ self.Wq)
        self.p = softmax(self.q @ self.Wv)

    def backward(self, grad_output):
        d = self.p * (grad_output - (grad_output * self.p).sum(axis=-1, keepdims=True))
        self.dWv, self.dWq = self.q.T @ d, self.x.T @ (d @ self.Wv.T * (1 - self.q**2))


class ForgetsItsSlope:
    def __init__(self, input_size, hidden_size, output_size):
        self.W1 = RNG.standard_normal((input_size, hidden_size))
        self.W2 = RNG.standard_normal((hidden_size, output_size))

    def forward(self, X):
        self.A1 = np.tanh(X @ self.W1)
        self.A2 = softmax(self.A1 @ self.W2)
        return self.A2

    def backward(self, X, y):
        d = (self.A2 - y) / len(X)
        dW2, dW1 = self.A1.T @ d, X.T @ (d @ self.W2.T)
        return dW1, dW2


class OneLayer(Part):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, d):
        return d * (1 - self.y**2)


class Chain:
    def __init__(self, layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, x):
        for layer in reversed(self.layers):
            x = layer.backward(x)
        return x


class Stack:
    """Layers are added to it; one of them forgets the slope of what is between them."""

    def __init__(self):
        self.stacked = []

    def add(self, layer):
        self.stacked.append(layer)

    def forward(self, x):
        for layer in self.stacked:
            x = layer.forward(x)
        return softmax(x)

    def backward(self, grad):
        grad = self.stacked[-1].backward(grad)
        self.stacked[0].backward(grad)


class WindowReader:
    """It reads two letters, and returns the loss of the next one, and its gradients."""

    def __init__(self, vocab_size):
        self.E = RNG.standard_normal((vocab_size, WIDTH))
        self.W = RNG.standard_normal((2 * WIDTH, vocab_size))

    def loss_and_grads(self, x, y):
        read = self.E[x].reshape(len(x), 2 * WIDTH)
        p, rows = softmax(read @ self.W), np.arange(len(x))
        loss = -np.log(p[rows, y]).mean()
        p[rows, y] -= 1
        dE = np.zeros_like(self.E)
        np.add.at(dE, x, (p @ self.W.T / len(x)).reshape(len(x), 2, WIDTH))
        return loss, {"E": dE, "W": read.T @ p / len(x)}


class MadeLater:
    """Its weights are made by another method than its constructor."""

    def __init__(self):
        self.model = {}

    def init_model(self, input_size, output_size):
        self.model["W"] = RNG.standard_normal((input_size, output_size)) / 9

    def train_step(self, x_train, y_train):
        p, rows = softmax(x_train @ self.model["W"]), np.arange(len(x_train))
        loss = -np.log(p[rows, y_train]).mean()
        p[rows, y_train] -= 1
        return loss, {"W": x_train.T @ p / len(x_train)}


# A step with a right part: the step is what counts.
class HasAPart(ForgetsItsSlope):
    def gradients(self, X, y):
        d = (self.A2 - y) / len(X)
        self.dW2, self.dW1 = self.A1.T @ d, X.T @ (d @ self.W2.T * (1 - self.A1**2))


class DecaysItsFirstWeights(HasAPart):
    """Its author's loss may have that penalty; nobody knows."""

    def backward(self, X, y):
        self.gradients(X, y)
        self.dW1 = self.dW1 + 0.01 * self.W1


class LimitsItsFirstGradient(HasAPart):
    def backward(self, X, y):
        self.gradients(X, y)
        self.dW1 = self.dW1 * min(1.0, 0.01 / np.linalg.norm(self.dW1))


class TrainsItsLastWeights(HasAPart):
    def backward(self, X, y):
        self.gradients(X, y)
        self.dW1 = np.zeros_like(self.W1)


class CallsARightPart(HasAPart):
    def backward(self, X, y):
        self.gradients(X, y)
        self.dW1 = self.dW1**2
