"""PyTorch's own backward of softmax, called in the ways that people call it."""

import torch


def through_autograd(logits, grad_output):
    leaf = torch.tensor(logits, requires_grad=True)
    torch.softmax(leaf, dim=1).backward(torch.tensor(grad_output))
    return leaf.grad.numpy()


def from_probs(probs, grad_output):
    probs, grad_output = torch.tensor(probs), torch.tensor(grad_output)
    return torch.ops.aten._softmax_backward_data(grad_output, probs, 1, probs.dtype)


def of_tensors(probs, grad_output):
    return probs * (grad_output - torch.sum(grad_output * probs, dim=1, keepdim=True))


class Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits):
        probs = torch.softmax(torch.as_tensor(logits), dim=1)
        ctx.save_for_backward(probs)
        return probs

    @staticmethod
    def backward(ctx, grad_output):
        (probs,) = ctx.saved_tensors
        grad_output = torch.as_tensor(grad_output)
        return probs * (grad_output - (grad_output * probs).sum(dim=1, keepdim=True))
