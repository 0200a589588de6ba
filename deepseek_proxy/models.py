"""The model catalogue as data: names, aliases, limits, capabilities and prices, and what an answer costs.

Knows nothing of requests, and no clock. Figures: DeepSeek "Models & Pricing" and `GET /models`, read in
November 2026 (USD prices were last seen in October 2026 and equal the CNY page of November).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one million tokens."""

    input_cache_hit: float
    input_cache_miss: float
    output: float


@dataclass(frozen=True, slots=True)
class Model:
    """One model that DeepSeek serves. Limits are in tokens, concurrency in requests per account."""

    id: str
    display_name: str
    description: str
    vision: bool
    max_concurrency: int
    off_peak: Price
    peak: Price
    released: int
    """Unix time of the served version; DeepSeek's own list has no `created`, OpenAI's needs one."""
    context_window: int = 1_048_576
    max_output_tokens: int = 393_216
    effort_levels: tuple[str, ...] = ("low", "high", "max")
    default_effort: str = "high"


FLASH: Final = Model(
    id="deepseek-flash",
    display_name="DeepSeek V4.1 Flash",
    description="Fast and cheap, sees images; the default for coding agents.",
    vision=True,
    max_concurrency=2500,
    off_peak=Price(0.003, 0.15, 0.60),
    peak=Price(0.006, 0.30, 1.20),
    released=1_792_195_200,  # 2026-10-17, DeepSeek-V4.1-Flash-1017
)
PRO: Final = Model(
    id="deepseek-v4-pro",
    display_name="DeepSeek V4 Pro",
    description="The larger model, for the hardest work; text only.",
    vision=False,
    max_concurrency=500,
    off_peak=Price(0.022, 0.66, 1.98),
    peak=Price(0.044, 1.32, 3.96),
    released=1_786_579_200,  # 2026-08-13, DeepSeek-V4-Pro-0813
)

MODELS: Final[Mapping[str, Model]] = MappingProxyType({m.id: m for m in (FLASH, PRO)})


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of a model. `thinking` is the mode the name stands for, None where it has none."""

    model: Model
    thinking: bool | None = None


# DeepSeek itself accepts the flash aliases; the other names were retired on 2026-07-24 and are
# answered with 400 upstream, but years of configuration files still hold them.
ALIASES: Final[Mapping[str, Alias]] = MappingProxyType(
    {
        "deepseek-v4-flash": Alias(FLASH),
        "deepseek-v4-flash-vision-exp": Alias(FLASH),
        "deepseek-chat": Alias(FLASH, thinking=False),
        "deepseek-v3": Alias(FLASH, thinking=False),
        "deepseek-reasoner": Alias(FLASH, thinking=True),
        "deepseek-r1": Alias(FLASH, thinking=True),
    }
)


LISTED_ALIASES: Final = ("deepseek-chat", "deepseek-v3", "deepseek-reasoner", "deepseek-r1")
"""Names that the list of models shows beside the models' own, each with `SEARCH_SUFFIX` too."""

SEARCH_SUFFIX: Final = "-search"
"""Behind any name: the same model, which may search the web."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a client's model name means upstream. `requested` is echoed back to the client."""

    requested: str
    model: Model
    thinking: bool | None = None
    search: bool = False


def resolve(name: str, aliases: Mapping[str, str], default: str | None) -> Resolved | None:
    """The model a client's `name` stands for, or None where the name is unknown and `default` is None.

    `aliases` is the operator's map (name -> a known name) and wins over the built-in one.
    """
    if name not in aliases and name.endswith(SEARCH_SUFFIX):
        found = resolve(name.removesuffix(SEARCH_SUFFIX), aliases, default)
        return Resolved(name, found.model, found.thinking, search=True) if found else None
    target = aliases.get(name, name)
    if target != name and target.endswith(SEARCH_SUFFIX):
        found = resolve(target, {}, None)
        return Resolved(name, found.model, found.thinking, search=True) if found else None
    if (model := MODELS.get(target)) is not None:
        return Resolved(name, model)
    if (alias := ALIASES.get(target)) is not None:
        return Resolved(name, alias.model, alias.thinking)
    if default is None or default == name:
        return None
    found = resolve(default, aliases, None)
    return Resolved(name, found.model, found.thinking, found.search) if found else None


# -- money ----------------------------------------------------------------------------------------

# Monday to Friday, hours of UTC from and to: 09:00-12:00 and 14:00-18:00 in Beijing, the same weekday there.
# DeepSeek exempts Chinese public holidays, which no table here knows: on those days the cost is too high.
PEAK_WEEKDAYS: Final = range(5)
PEAK_HOURS: Final = ((1, 4), (6, 10))

SEARCH_USD: Final = 0.75 / 1_000
"""What one web search costs, or one page (October 2026); what fails or finds nothing is free."""

_PRICED_TOKENS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars of one answer: what it cost, and what more it had cost without DeepSeek's cache."""

    spent: float
    saved: float


def is_peak(moment: datetime) -> bool:
    """Whether DeepSeek's higher prices hold at `moment`, which knows its time zone."""
    there = moment.astimezone(UTC)
    return there.weekday() in PEAK_WEEKDAYS and any(begin <= there.hour < end for begin, end in PEAK_HOURS)


def cost(model: Model, moment: datetime, *, cache_hit: int, cache_miss: int, output: int) -> Cost:
    """What these numbers of tokens cost at `moment`; `output` has the thinking in it."""
    price = model.peak if is_peak(moment) else model.off_peak
    spent = cache_hit * price.input_cache_hit + cache_miss * price.input_cache_miss + output * price.output
    saved = cache_hit * (price.input_cache_miss - price.input_cache_hit)
    return Cost(spent / _PRICED_TOKENS, saved / _PRICED_TOKENS)
