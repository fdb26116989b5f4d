"""How many random programs are tried, and from which seed: STEPMARK_EXAMPLES and STEPMARK_SEED."""

import os
import secrets
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings

EXAMPLES = int(os.environ.get("STEPMARK_EXAMPLES", "2000"))
SEED = int(os.environ.get("STEPMARK_SEED", secrets.randbits(32)))


def random_examples(share: float = 1.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Settings for a test over random programs: that share of EXAMPLES, from SEED."""
    chosen = settings(
        max_examples=max(1, int(EXAMPLES * share)),
        deadline=None,
        print_blob=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )

    def decorate(test: Any) -> Any:
        return seed(SEED)(chosen(test))

    return decorate
