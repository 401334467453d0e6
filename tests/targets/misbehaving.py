"""Functions that do anything but answer."""

import ctypes
import itertools
import os
import subprocess
import sys
import time


def raises(probs, grad_output):
    return inner(probs, grad_output)


def inner(probs, grad_output):
    return probs @ grad_output @ undefined_name  # noqa: F821


def hangs(probs, grad_output):
    sum(itertools.repeat(probs + grad_output))  # for ever


def sleeps_in_a_child(probs, grad_output):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    time.sleep(600)


def prompts(probs, grad_output):
    factor = float(input("learning rate? "))
    return factor * probs * grad_output


def calls_exit(probs, grad_output):
    sys.exit("that is all")


def ends_process(probs, grad_output):
    os._exit(7)


def crashes(probs, grad_output):
    ctypes.string_at(0)


def forks(probs, grad_output):
    if os.fork() == 0:
        time.sleep(600)
    return probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True))


def forks_and_returns(probs, grad_output):
    os.fork()
    return probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True))


def forks_without_end(probs, grad_output):
    while True:
        os.fork()


def allocates(probs, grad_output):
    kept = []
    while True:
        kept.append(bytearray(64 << 20))


def prints(probs, grad_output):
    print("probs are", probs.shape)
    return probs * (grad_output - (grad_output * probs).sum(axis=1, keepdims=True))


def prints_without_end(probs, grad_output):
    while True:
        print("x" * 100000)


def returns_text(probs, grad_output):
    return "softmax"


def returns_nothing(probs, grad_output):
    pass
