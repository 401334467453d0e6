"""Whether the machine was quiet: the share of a run's visits that were slowed, and their picture."""

from collections.abc import Iterator

from ..charts.weather import LEAST_VISITS, SLOWED, slowdowns, weather
from .content import Picture, Section
from .drawing import drawn_picture
from .source import Source

QUIET = 0.2  # up to this share of slowed visits the machine is called quiet


def weather_sentence(source: Source) -> str:
    """Whether the machine was quiet, by the share of visits that were slowed; '' for a run without enough visits."""
    table = slowdowns(source.visits, source.frame)
    if len(table) < LEAST_VISITS:
        return ""
    slowed = float((table["slowdown"] > SLOWED).mean())
    verdict = "Yes" if slowed <= QUIET else "Not very"
    return f"{verdict}: {slowed:.0%} of {len(table)} visits were slowed by more than {SLOWED - 1:.0%}."


def weather_section(source: Source) -> Iterator[Section]:
    """Every visit of the run over time; nothing for a run without enough visits."""
    sentence = weather_sentence(source)
    if sentence:
        figure = weather(source.visits, source.frame, source.run)
        pictures: list[Picture] = [drawn_picture(figure, sentence)]
        text = "Each time is taken from the fastest visits that agree, so slowed visits do not enter it."
        yield Section("weather", "Was the machine quiet?", sentences=[sentence, text], pictures=pictures)
