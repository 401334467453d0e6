"""Nodes of a graph that know their consumers, and keep the gradients of their parents: a framework of a course."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class ConnectedNode:
    def __init__(self, inbound_nodes=()):
        self.inbound_nodes, self.outbound_nodes = list(inbound_nodes), []
        self.value, self.gradients = None, {}
        for node in self.inbound_nodes:
            node.outbound_nodes.append(self)


class ConnectedInput(ConnectedNode):
    def forward(self, value=None):
        self.value = value if value is not None else self.value


class ConnectedSoftmax(ConnectedNode):
    def __init__(self, node):
        super().__init__([node])

    def forward(self):
        self.value = softmax(self.inbound_nodes[0].value)

    def own_gradient(self, grad_cost):
        return self.value * (grad_cost - (grad_cost * self.value).sum(axis=1, keepdims=True))

    def backward(self):
        self.gradients = {node: np.zeros_like(node.value) for node in self.inbound_nodes}
        for node in self.outbound_nodes:
            self.gradients[self.inbound_nodes[0]] += self.own_gradient(node.gradients[self])


class ConnectedDiagonal(ConnectedSoftmax):
    def own_gradient(self, grad_cost):
        return self.value * (1 - self.value) * grad_cost


class ConnectedLoss(ConnectedNode):
    def __init__(self, y, logits):
        super().__init__([y, logits])

    def forward(self):
        y, logits = (node.value for node in self.inbound_nodes)
        self.probs = softmax(logits)
        self.value = -np.mean(np.sum(y * np.log(self.probs), axis=1))

    def backward(self):
        y, logits = self.inbound_nodes
        self.gradients[logits] = (self.probs - y.value) / len(y.value)
        self.gradients[y] = np.zeros_like(y.value)


# The same with other names.
class OutputsNode:
    def __init__(self, inputs=()):
        self.inputs, self.outputs, self.gradients = list(inputs), [], {}
        for node in self.inputs:
            node.outputs.append(self)


class OutputsSoftmax(OutputsNode):
    def __init__(self, node):
        super().__init__([node])

    def forward(self):
        self.value = softmax(self.inputs[0].value)

    def backward(self):
        incoming = self.outputs[0].gradients[self]
        dot = (incoming * self.value).sum(axis=1, keepdims=True)
        self.gradients = {self.inputs[0]: self.value * (incoming - dot)}
