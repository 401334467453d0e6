"""Nodes of a graph, for single rows, whose gradients are added to memory that nobody has set before a pass."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


class AddingNode:
    def __init__(self, shape):
        self.value, self.grad = np.empty(shape), np.full(shape, np.nan)


class AddingInput(AddingNode):
    def __init__(self, value):
        super().__init__(value.shape)
        self.value = value


class AddingSoftmax(AddingNode):
    def __init__(self, x):
        super().__init__(x.value.shape)
        self.x = x

    def forward(self):
        self.value = softmax(self.x.value)

    def backward(self):
        self.x.grad += self.value * (self.grad - np.dot(self.grad, self.value))
