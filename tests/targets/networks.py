"""Networks and layers whose backward needs what their forward left or returned; ``NETWORKS`` says what each is."""

import itertools

import numpy as np

# Name, what the report calls it, the mistake's name, and what the report says somewhere.
NETWORKS = (
    ("deep_backward", "right", "", "deep_forward(padded_identity, parameters_of_two_layers)"),
    ("gradients_of_parameters", "right", "", "gradients_of_parameters(parameters_of_two_layers, padded_identity"),
    ("back_prop", "wrong", "diagonal_applied_again", "back_prop(padded_identity"),
    ("gradients_with_names", "right", "", "the gradient of its last weights"),
    ("Projection", "right", "", "project(logits), then backpropagate(grad_output)"),
    ("LossBesideItsForward.soft_max", "right", "", "then soft_max(probs, targets)"),
    ("ReturnsWhatItNeeds", "right", "", "backward(grad_output, returned_1)"),
    ("CallsItsActivation", "wrong", "diagonal_only", "CallsItsActivation(features, features, softmax)"),
    ("WithVelocities.train_step", "wrong", "diagonal_applied_again", "the update of the weights is taken"),
    ("KeepsGradientsByName.backward", "right", "", "KeepsGradientsByName(features, hidden_sizes, features, layers)"),
    ("Functions.softmax", "wrong", "diagonal_only_unmultiplied", "softmax(logits)"),
    ("ActivationForHidden.backward_pass", "right", "", "backward_pass(probs, labels)"),
    ("MayBeToldTargets.backward", "right, with a limit", "", "backward(upstream, targets)"),
    ("turns_the_targets", "right", "", "turns_the_targets(logits, identity, turned_targets)"),
    ("spares_the_bias", "right", "", "its data was an identity matrix"),
    ("ListsOfGradients", "right", "", "ListsOfGradients(sizes)"),
    ("ToldItsLabels", "right", "", "loadLabel(targets), then backward()"),
    ("Attention", "right", "", "forward(logits, long_keys, values), then backward(grad_output)"),
    ("GetsLabelsAsGradient", "right", "", "backward(probs, targets)"),
    ("LossOfAnotherAxis", "wrong", "", ""),
    ("loss_of_a_word", "right, with a limit", "", "softmax and cross-entropy together"),
)


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def of_columns(z):
    e = np.exp(z - z.max(axis=0, keepdims=True))
    return e / e.sum(axis=0, keepdims=True)


def softmax(z):
    return of_columns(z.T).T


def deep_forward(X, parameters):
    kept, A = [], X
    layers = len(parameters) // 2
    for layer in range(1, layers + 1):
        W = parameters[f"W{layer}"]
        Z = W @ A + parameters[f"b{layer}"]
        kept.append((A, W, Z))
        A = of_columns(Z) if layer == layers else np.maximum(Z, 0)
    if layers < 2:
        raise ValueError("a deep network has more than one layer")
    return A, kept


def deep_backward(AL, Y, kept):
    gradients, dZ = {}, AL - Y
    for layer in reversed(range(len(kept))):
        A_prev, W, _ = kept[layer]
        gradients[f"dW{layer + 1}"] = dZ @ A_prev.T / Y.shape[1]
        gradients[f"db{layer + 1}"] = dZ.sum(axis=1, keepdims=True) / Y.shape[1]
        dZ = (W.T @ dZ) * (kept[layer - 1][2] > 0) if layer else dZ
    return gradients


def gradients_of_parameters(params, X, y):
    hidden = np.tanh(X @ params["W1"] + params["b1"])
    probs = softmax(hidden @ params["W2"] + params["b2"])
    probs[np.arange(len(y)), y] -= 1
    probs /= len(y)
    return {"W2": hidden.T @ probs, "b2": probs.sum(axis=0, keepdims=True)}


def forward_prop(X, W1, b1, W2, b2):
    Z1 = X @ W1 + b1
    A1 = np.maximum(Z1, 0)
    Z2 = A1 @ W2 + b2
    A2 = softmax(Z2)
    return Z1, A1, Z2, A2


def back_prop(X, Z1, A1, A2, W1, W2, y):
    dZ2 = (A2 - y) * A2 * (1 - A2) / len(y)
    dZ1 = (dZ2 @ W2.T) * (Z1 > 0)
    return X.T @ dZ1, A1.T @ dZ2


def forward_with_names(X, W1, b1, W2, b2):
    between = np.maximum(X @ W1 + b1, 0)
    outcome = softmax(between @ W2 + b2)
    return between, outcome


def gradients_with_names(between, outcome, y):
    wrong_by = outcome.copy()
    wrong_by[range(len(y)), y] -= 1
    return between.T @ wrong_by / len(y), wrong_by.mean(axis=0)


class Projection:
    """The method that a known name would make the forward leaves nothing that the backward needs."""

    def __init__(self, dim, words):
        self.W = drawn(dim, words)

    def softmax(self, z):
        return softmax(z)

    def project(self, x):
        self.given = x
        self.chances = self.softmax(x @ self.W)
        return self.chances

    def backpropagate(self, d_out):
        p = self.chances
        self.d_z = p * (d_out - (d_out * p).sum(axis=1, keepdims=True))
        self.d_W = self.given.T @ self.d_z
        return self.d_z @ self.W.T


class LossBesideItsForward:
    def __init__(self, in_dimensions, num_of_classes):
        self.W = drawn(num_of_classes, in_dimensions)
        self.b = np.zeros((num_of_classes, 1))

    def forward(self, X):
        self.X = X.copy()
        return self.W @ X + self.b

    def backward(self, V=None):
        pass

    def soft_max(self, net_out, Y):
        probabilities = of_columns(net_out)
        self.dW = (probabilities - Y) @ self.X.T / Y.shape[1]
        self.db = (probabilities - Y).mean(axis=1, keepdims=True)
        self.dX = self.W.T @ (probabilities - Y) / Y.shape[1]
        return -np.sum(Y * np.log(probabilities)) / Y.shape[1], probabilities


class ReturnsWhatItNeeds:
    def __init__(self, input_size, output_size):
        self.W = drawn(input_size, output_size)
        self.b = np.zeros(output_size)

    def forward(self, x):
        chances = softmax(x @ self.W + self.b)
        fwd_state = [x, chances]
        return chances, fwd_state

    def backward(self, deltas, fwd_state):
        x, chances = fwd_state
        dz = chances * (deltas - (deltas * chances).sum(axis=1, keepdims=True))
        return dz @ self.W.T, (x.T @ dz, dz.sum(axis=0))


class CallsItsActivation:
    def __init__(self, inputs, neurons, activation_fn):
        self.weights = drawn(inputs, neurons)
        self.biases = np.zeros(neurons)
        self.activation_fn = activation_fn

    def forward(self, inputs):
        self.outputs = self.activation_fn(inputs @ self.weights + self.biases)
        return self.outputs

    def backward(self, grads):
        return (grads * self.outputs * (1 - self.outputs)) @ self.weights.T


class WithVelocities:
    def __init__(self, input_size, hidden_size, output_size, learning_rate, momentum):
        self.learning_rate, self.momentum = learning_rate, momentum
        self.in_weights, self.out_weights = drawn(input_size, hidden_size), drawn(hidden_size, output_size)
        self.in_velocity, self.out_velocity = np.zeros_like(self.in_weights), np.zeros_like(self.out_weights)

    def feedforward(self, X):
        self.hidden = np.maximum(X @ self.in_weights, 0)
        self.output = softmax(self.hidden @ self.out_weights)
        return self.output

    def train_step(self, X, Y):
        self.feedforward(X)
        delta = (self.output - Y) * self.output * (1 - self.output) / len(X)
        hidden_delta = (delta @ self.out_weights.T) * (self.hidden > 0)
        self.out_velocity = self.momentum * self.out_velocity - self.learning_rate * self.hidden.T @ delta
        self.in_velocity = self.momentum * self.in_velocity - self.learning_rate * X.T @ hidden_delta
        self.in_weights += self.in_velocity
        self.out_weights += self.out_velocity


class KeepsGradientsByName:
    def __init__(self, input_size, hidden_sizes, output_size, num_layers):
        sizes = [input_size, *hidden_sizes, output_size]
        if len(sizes) != num_layers + 1:
            raise ValueError("as many sizes as layers, and one more")
        self.num_layers = num_layers
        self.params = {f"W{k}": drawn(sizes[k - 1], sizes[k]) for k in range(1, num_layers + 1)}
        self.params |= {f"b{k}": np.zeros(sizes[k]) for k in range(1, num_layers + 1)}

    def forward(self, X):
        self.outputs = {0: X}
        for k in range(1, self.num_layers + 1):
            z = self.outputs[k - 1] @ self.params[f"W{k}"] + self.params[f"b{k}"]
            self.outputs[k] = softmax(z) if k == self.num_layers else np.maximum(z, 0)
        return self.outputs[self.num_layers]

    def backward(self, X, y, epoch, lr):
        delta = self.forward(X).copy()
        delta[range(len(y)), y] -= 1
        self.gradients = {f"W{self.num_layers}": self.outputs[self.num_layers - 1].T @ delta / len(y)}
        for name, gradient in self.gradients.items():
            self.params[name] -= lr / epoch * gradient
        return -np.log(self.outputs[self.num_layers][range(len(y)), y]).mean()


class Functions:
    def __init__(self, name):
        self.name = name

    def softmax(self, x, derivative=False):
        out = softmax(x)
        return out * (1 - out) if derivative else out


class ActivationForHidden:
    """What it is told names the activation of its hidden layers; its forward returns the logits."""

    def __init__(self, hidden_sizes, activation_func, input_size=90, output_size=6):
        sizes = [input_size, *hidden_sizes, output_size]
        self.activation_func, self.layers = activation_func, len(sizes) - 1
        self.net = {f"w_{k}": drawn(sizes[k - 1], sizes[k]) for k in range(1, self.layers + 1)}

    def activate(self, z):
        if self.activation_func == "relu":
            return np.maximum(z, 0)
        if self.activation_func == "tanh":
            return np.tanh(z)
        raise ValueError("no such activation")

    def forward_pass(self, X):
        self.kept = [X]
        for k in range(1, self.layers):
            self.kept.append(self.activate(self.kept[-1] @ self.net[f"w_{k}"]))
        return self.kept[-1] @ self.net[f"w_{self.layers}"]

    def backward_pass(self, scores, y):
        d_o = softmax(scores)
        loss = -np.log(d_o[range(len(y)), y]).mean()
        d_o[range(len(y)), y] -= 1
        return loss, {f"w_{self.layers}": self.kept[-1].T @ d_o / len(y)}


class MayBeToldTargets:
    def __init__(self, n_input, n_output, activation="relu"):
        self.W, self.activation = drawn(n_input, n_output), activation

    def forward(self, A_prev):
        self.A_prev = A_prev
        Z = A_prev @ self.W
        self.A = softmax(Z) if self.activation == "softmax" else np.maximum(Z, 0)
        return self.A

    def backward(self, dA, Y=None):
        dZ = self.A - Y if self.activation == "softmax" else dA * (self.A > 0)
        return dZ @ self.W.T, self.A_prev.T @ dZ / len(dZ)


def turns_the_targets(theta_L, x_L, y_mat):
    probs = softmax(x_L.T @ theta_L)
    return -np.mean(y_mat.T * np.log(probs)), x_L @ (probs - y_mat.T) / x_L.shape[1]


def spares_the_bias(W, X, y, reg):
    """The last item of the data is always 1."""
    p = of_columns(W @ X)
    loss = -np.log(p[y, np.arange(len(y))]).mean() + reg * (W[:, :-1] ** 2).sum()
    p[y, np.arange(len(y))] -= 1
    return loss, p @ X.T / len(y) + 2 * reg * np.hstack([W[:, :-1], np.zeros((len(W), 1))])


def loss_of_a_word(h, context_word_idx, U_context_words_weights):
    scores = U_context_words_weights.T @ h
    chances = softmax(scores[None, :])[0]
    loss = -np.log(chances[context_word_idx])
    chances[context_word_idx] -= 1
    return loss, U_context_words_weights @ chances, np.outer(h, chances)


class ListsOfGradients:
    def __init__(self, sizes):
        self.weights = [drawn(*pair) for pair in itertools.pairwise(sizes)]
        self.biases = [np.zeros((1, size)) for size in sizes[1:]]
        self.rate = 0.1

    def forward(self, X):
        self.kept = [X]
        for W, b in zip(self.weights, self.biases, strict=True):
            z = self.kept[-1] @ W + b
            self.kept.append(softmax(z) if W is self.weights[-1] else np.maximum(z, 0))
        return self.kept[-1]

    def backward(self, y_true):
        self.d_weights, self.d_biases = [], []
        d = (self.kept[-1] - y_true) / len(y_true)
        for W, kept in zip(self.weights[::-1], self.kept[-2::-1], strict=True):
            self.d_weights.insert(0, kept.T @ d)
            self.d_biases.insert(0, d.sum(axis=0, keepdims=True))
            d = d @ W.T * (kept > 0)
        for kept, gradients in ((self.weights, self.d_weights), (self.biases, self.d_biases)):
            for array, gradient in zip(kept, gradients, strict=True):
                array -= self.rate * gradient


class ToldItsLabels:
    def loadLabel(self, label):
        self.label = label

    def forward(self, x):
        self.p = softmax(x)
        return self.p

    def backward(self):
        return self.p - self.label


class Attention:
    def forward(self, Q, K, V, mask=None):
        self.Q, self.K, self.V = Q, K, V
        scores = Q @ np.swapaxes(K, -2, -1) / np.sqrt(Q.shape[-1])
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        self.P = e / e.sum(axis=-1, keepdims=True)
        return self.P @ V

    def backward(self, d_output):
        d = d_output @ np.swapaxes(self.V, -2, -1)
        d = self.P * (d - (d * self.P).sum(axis=-1, keepdims=True)) / np.sqrt(self.Q.shape[-1])
        return d @ self.K, np.swapaxes(d, -2, -1) @ self.Q, np.swapaxes(self.P, -2, -1) @ d_output


class LossOfAnotherAxis:
    def forward(self, x, t):
        self.x, self.t = x, t
        return -(t * (x - np.log(np.exp(x).sum(axis=0)))).sum(axis=1)

    def backward(self):
        return -self.t / self.x


class GetsLabelsAsGradient:
    def forward(self, x):
        return softmax(x)

    def backward(self, output, gradient):
        return (output - gradient) / len(output)

    def get_loss(self, output, labels):
        return -(labels * np.log(output)).sum() / len(output)
