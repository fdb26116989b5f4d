"""How long a connection that is kept between two calls is trusted.

Lambda freezes a function between two events, for minutes, and drops its idle connections meanwhile
(docs.aws.amazon.com/lambda/latest/dg/best-practices.html). So do the others on the way, most of them silently
for whoever is frozen: load balancers in front of a service after 60 s by default (AWS's Application Load
Balancer), DynamoDB itself after 60 to 90 s (aws/aws-sdk-java#1365, feast-dev/feast#5167), NAT gateways and
Network Load Balancers after 350 s, without a word (boto/botocore#2916). A new connection costs milliseconds;
a dead one costs a caller the whole time-out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation import timestamps

if TYPE_CHECKING:
    from datetime import datetime

TRUSTED_SECONDS = 50.0


def is_trusted(used_at: datetime) -> bool:
    """Tell whether a connection that was last used then may be used once more.

    By the clock on the wall, which goes on while a function is frozen; set back, it makes nothing younger.
    """
    return 0 <= (timestamps.now() - used_at).total_seconds() <= TRUSTED_SECONDS
