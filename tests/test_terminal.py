import io

import pytest
from rich.console import Console
from rich.text import Text
from softmax_bench.terminal import print_line, print_sentence

SENTENCE = "the [B, N, N] Jacobian takes 137 MB, the vectorized form 262 kB"


def printed(text: str, *, terminal: bool, cut: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=40, color_system=None, highlight=False)
    if cut:
        print_line(Text(text), console)
    else:
        print_sentence(text, console)
    return file.getvalue()


def test_at_a_terminal_a_sentence_breaks_between_words_and_a_line_is_cut() -> None:
    lines = printed(SENTENCE, terminal=True, cut=False).splitlines()
    assert [line.rstrip() for line in lines] == ["the [B, N, N] Jacobian takes 137 MB, the", "vectorized form 262 kB"]
    assert printed(SENTENCE, terminal=True, cut=True) == "the [B, N, N] Jacobian takes 137 MB, th…\n"


@pytest.mark.parametrize("cut", [False, True])
def test_in_a_file_both_stay_whole(cut: bool) -> None:
    assert printed(SENTENCE, terminal=False, cut=cut) == f"{SENTENCE}\n"
