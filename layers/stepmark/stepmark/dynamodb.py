"""A store in DynamoDB: one item for each workflow, one conditional write for each commit.

    workflowId (key) │ workflow │ version │ status │ state │ progress │ dueAt │ leaseOwner │ leaseUntil
                     │ openShard │ writer │ keepSeconds │ endsAt │ expiresAt

The index `open` (openShard, dueAt; keys only) holds the workflows that may still change, and nothing else:
what is over leaves it. Its partition key spreads them over a few partitions, its sort key is when a worker
must look: so due work and live positions are queries, and no Scan is ever needed. `writer` tells a commit
whose answer was lost, and which the SDK sent again, from somebody else's. What is over may carry `expiresAt`,
for the table's time to live; `keepSeconds` tells whoever ends it how long it is to be kept. What has an end
of its life, `endsAt`, carries `expiresAt` from its start: it goes, even if nobody can end it.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from functools import cache
from heapq import merge
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, cast
from zlib import crc32

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from stepmark.core.record import Record, Status, status_of
from stepmark.definition.workflow import is_text
from stepmark.errors import RecordTooLarge, StoreError, StoreUnavailable, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        UniversalAttributeValueTypeDef,
    )

    type _Item = dict[str, dict[str, str]]
    type _Values = dict[str, UniversalAttributeValueTypeDef]

INDEX = "open"
# A partition of the index takes 1,000 writes a second, and a journey of ten commits writes to it twelve
# times: 16 are enough for 1,333 such journeys a second, and each look for overdue work reads 16 times. Items
# stay where they are when this grows; when it shrinks, nobody finds those of the shards that are gone.
SHARDS = 16
MAX_BYTES = (
    390_000  # DynamoDB refuses an item above 400 KB; the rest is for the index and for counting errors
)
MAX_ID_BYTES = 2048  # of a partition key
# What is the same however often it is tried again, and what to look at.
_WRONG = {
    "ResourceNotFoundException": "there is no such table in this account and region, or no index `open`",
    "ValidationException": "it has not the key `workflowId` and the index `open` (`openShard`, `dueAt`)",
    "AccessDeniedException": "these credentials may not do that to it, or not use its key",
}
# After its end a workflow has that long to be cancelled and torn down; so long the engine tries it at most.
# Then it is gone, over or not.
END_SECONDS = 3600
NEVER = 9_999_999_999  # dueAt of a workflow that no timer will wake: the index needs a value
_MAX_KEYS = 100  # of one BatchGetItem
_MAX_KEPT = 10_000  # workflows of which is known how long they are to be kept: more than are at work at once
FIRST_PAUSE, MAX_SECONDS = 0.05, 10.0  # for what BatchGetItem leaves unread; each pause is twice the last

# One try takes at most 2.5 s and there are two: 5 s in all, where botocore's own default is two minutes.
CONFIG = Config(
    connect_timeout=1.0,
    read_timeout=1.5,
    retries={"total_max_attempts": 2, "mode": "standard"},
    max_pool_connections=50,
)


class DynamoDBStore:
    """Keeps records in one DynamoDB table.

        engine = Engine([Approval], store=DynamoDBStore("Workflows"))

    The table has the key `workflowId` and the index `open` (`openShard`, `dueAt`, keys only). keep_seconds:
    how long a workflow that is over is kept, if the table's time to live is on `expiresAt`; without it, as
    long as the store had it that wrote the workflow before. A workflow started with `ends_at` is kept until
    an hour after that at the latest, even if it is not over. Raises StoreUnavailable when DynamoDB does not
    do its part, StoreError for what would be the same the next time (no such table, no permission, an id of
    more than 2,048 bytes), and RecordTooLarge for more than 390,000 bytes.
    """

    on_one_machine = False

    def __init__(
        self, table: str, client: DynamoDBClient | None = None, *, keep_seconds: float | None = None
    ) -> None:
        self._table = table
        self._client = client or _client()
        self.slowest_write = _slowest(self._client.meta.config)
        self._keep_seconds = keep_seconds
        self._kept: dict[str, float] = {}  # keepSeconds of what was loaded, when this store has none itself
        self._keeping = Lock()

    def create(self, record: Record) -> bool:
        writer = secrets.token_hex(8)
        condition = "attribute_not_exists(workflowId) OR expiresAt <= :now"
        there = self._put(record, writer, condition, {":now": {"N": repr(time.time())}})
        return there is None or there.get("writer") == {"S": writer}

    def load(self, workflow_id: str) -> Record | None:
        if not _is_key(workflow_id):
            return None  # there can be none
        try:
            answer = self._client.get_item(
                TableName=self._table, Key={"workflowId": {"S": workflow_id}}, ConsistentRead=True
            )
        except (ClientError, BotoCoreError) as error:
            raise self._failure(error) from error
        item = answer.get("Item")
        if item is None:
            return None
        if _expired(item):
            self._bury(item)
            return None
        if self._keep_seconds is None and "keepSeconds" in item:
            self._note_kept(workflow_id, float(item["keepSeconds"]["N"]))
        return _record(item)

    def _note_kept(self, workflow_id: str, seconds: float) -> None:
        """Note what the next commit needs; most that are loaded are ended by others, or only looked at."""
        with self._keeping:
            self._kept.pop(workflow_id, None)
            self._kept[workflow_id] = seconds
            if len(self._kept) > _MAX_KEPT:
                del self._kept[next(iter(self._kept))]

    def commit(self, record: Record, expected_version: int) -> None:
        writer = secrets.token_hex(8)
        values: _Values = {":expected": {"N": str(expected_version)}}
        condition = "version = :expected AND attribute_not_exists(endsAt)"
        if record.ends_at is not None:  # the same id may have begun a new life at the same version
            condition, values[":end"] = "version = :expected AND endsAt = :end", _number(record.ends_at)
        there = self._put(record, writer, condition, values)
        if there is not None and there.get("writer") != {"S": writer}:
            raise VersionConflict(record.workflow_id)

    def due(self, now: float, limit: int, workflows: Collection[str] | None = None) -> list[str]:
        if workflows is None:
            found = merge(*(self._open(shard, now, limit) for shard in range(SHARDS)))
            return [workflow_id for _, workflow_id in islice(found, limit)]
        # the index has keys only: whose they are, the items say
        everything = merge(*(self._open(shard, now, None) for shard in range(SHARDS)))
        ids, chosen = (workflow_id for _, workflow_id in everything), list[str]()
        while len(chosen) < limit and (some := list(islice(ids, min(limit, _MAX_KEYS)))):
            own = {record.workflow_id for record in self._get(some) if record.workflow in workflows}
            chosen += [workflow_id for workflow_id in some if workflow_id in own]
        return chosen[:limit]

    def next_due(self) -> float | None:
        first = min((at for shard in range(SHARDS) for at, _ in self._open(shard, None, 1)), default=NEVER)
        return first if first < NEVER else None

    def live(self, workflow: str | None = None) -> Iterator[Record]:
        ids = sorted(self.open_ids())
        for start in range(0, len(ids), _MAX_KEYS):
            records = sorted(self._get(ids[start : start + _MAX_KEYS]), key=lambda record: record.workflow_id)
            yield from (r for r in records if not r.status.closed and workflow in {None, r.workflow})

    def open_ids(self, shard: int | None = None) -> Iterator[str]:
        """The ids of what may still change, in no order, without reading what it is.

            ids = list(store.open_ids())    # or open_ids(0), ..., open_ids(SHARDS - 1), a part at a time

        The index may lag a second behind: a workflow that is just over may be among them. A page holds some
        thousands of a shard; one that is committed between two pages may be passed over. Raises
        StoreUnavailable.
        """
        for one in range(SHARDS) if shard is None else [shard]:
            yield from (workflow_id for _, workflow_id in self._open(one, None, None))

    def _put(self, record: Record, writer: str, condition: str, values: _Values) -> _Values | None:
        """Write the record if the condition holds, else return the item on which it failed."""
        if not _is_key(record.workflow_id):
            raise StoreError(
                f"a workflow's id may have {MAX_ID_BYTES:,} bytes in DynamoDB: choose a shorter one"
            )
        item: _Item = {**_item(record), "writer": {"S": writer}}
        keep = self._keep_seconds if self._keep_seconds is not None else self._kept.get(record.workflow_id)
        gone: list[float] = [] if record.ends_at is None else [record.ends_at + END_SECONDS]
        if keep is not None:
            item["keepSeconds"] = {"N": repr(keep)}
            if "openShard" not in item:
                gone.append(time.time() + keep)
        if gone:
            item["expiresAt"] = {"N": str(int(min(*gone, NEVER)))}
        size = _size(item)
        if size > MAX_BYTES:
            raise RecordTooLarge(
                f"the workflow would take {size:,} bytes, and DynamoDB has room for {MAX_BYTES:,}: "
                "keep what is large elsewhere and only its address in the state"
            )
        try:
            self._client.put_item(
                TableName=self._table,
                Item=cast("_Values", item),
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise self._failure(error) from error
            return cast("_Values", error.response.get("Item", {}))
        except BotoCoreError as error:
            raise self._failure(error) from error
        if "openShard" not in item:
            with self._keeping:
                self._kept.pop(record.workflow_id, None)
        return None

    def _failure(self, error: ClientError | BotoCoreError) -> StoreUnavailable | StoreError:
        """What a call's error says: that it may be tried again, or what is wrong."""
        if isinstance(error, ClientError):
            reason = error.response["Error"]["Code"]
            wrong = _WRONG.get(reason)
        else:
            reason, wrong = type(error).__name__, None
            if isinstance(error, NoCredentialsError | PartialCredentialsError | ParamValidationError):
                wrong = str(error).partition("\n")[0]
        if wrong is not None:
            return StoreError(f"table {self._table!r} can't be used: {wrong} ({reason})")
        return StoreUnavailable(f"DynamoDB did not do it ({reason})")

    def _bury(self, item: Mapping[str, AttributeValueTypeDef]) -> None:
        """What has expired and was not over leaves the index and loses its data, before DynamoDB deletes it.

        When that fails, the next who looks tries it again.
        """
        if "openShard" not in item:
            return
        left = {name: item[name] for name in ("workflowId", "workflow", "version", "expiresAt")}
        left |= {"status": {"S": str(Status.CANCELLED)}, "state": {"S": "{}"}, "progress": {"S": "{}"}}
        with suppress(ClientError, BotoCoreError):
            self._client.put_item(
                TableName=self._table,
                Item=cast("_Values", left),
                ConditionExpression="version = :version AND expiresAt = :expired",
                ExpressionAttributeValues=cast(
                    "_Values", {":version": item["version"], ":expired": item["expiresAt"]}
                ),
            )

    def _open(self, shard: int, until: float | None, limit: int | None) -> Iterator[tuple[float, str]]:
        """When the workflows of one shard are due, and their ids, the most overdue first."""
        condition, values = "openShard = :shard", {":shard": {"N": str(shard)}}
        if until is not None:
            condition, values[":until"] = f"{condition} AND dueAt <= :until", {"N": repr(until)}
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=INDEX,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=cast("_Values", values),
            PaginationConfig={} if limit is None else {"MaxItems": limit, "PageSize": limit},
        )
        try:
            for page in pages:
                for item in page["Items"]:
                    yield float(item["dueAt"]["N"]), item["workflowId"]["S"]
        except (ClientError, BotoCoreError) as error:
            raise self._failure(error) from error

    def _get(self, workflow_ids: Iterable[str]) -> Iterator[Record]:
        keys: list[Mapping[str, AttributeValueTypeDef]] = [
            {"workflowId": {"S": each}} for each in workflow_ids
        ]
        pause, deadline = FIRST_PAUSE, time.monotonic() + MAX_SECONDS
        while keys:
            try:
                answer = self._client.batch_get_item(
                    RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}}
                )
            except (ClientError, BotoCoreError) as error:
                raise self._failure(error) from error
            found = answer["Responses"].get(self._table, ())
            yield from (_record(item) for item in found if not _expired(item))
            left = answer["UnprocessedKeys"].get(self._table)
            keys = list(left["Keys"]) if left else []
            if keys and time.monotonic() + pause > deadline:
                raise StoreUnavailable(f"DynamoDB did not read {len(keys)} items in time: try again later")
            if keys:  # the table is throttled: to ask again at once would only add to it
                time.sleep(pause)
                pause *= 2


@cache
def _client() -> DynamoDBClient:
    try:
        client = botocore.session.get_session().create_client("dynamodb", config=CONFIG)
    except BotoCoreError as error:  # no region, or a profile that is not there
        raise StoreError(f"DynamoDB can't be asked: {error} (see AWS_DEFAULT_REGION, AWS_PROFILE)") from error
    return cast("DynamoDBClient", client)


def _slowest(config: Any) -> float:  # its options are no attributes to type checkers
    """How many seconds a client tries at most, but for its short pauses."""
    retries = config.retries or {}
    tries = retries.get("total_max_attempts", retries.get("max_attempts", 4) + 1)
    return float(tries * (config.connect_timeout + config.read_timeout))


def _item(record: Record) -> _Item:
    item = {
        "workflowId": {"S": record.workflow_id},
        "workflow": {"S": record.workflow},
        "version": {"N": str(record.version)},
        "status": {"S": str(record.status)},
        "state": {"S": record.state},
        "progress": {"S": record.progress},
    }
    if record.due_at is not None or not record.status.closed:
        item["openShard"] = {"N": str(crc32(record.workflow_id.encode()) % SHARDS)}
        item["dueAt"] = {"N": repr(NEVER if record.due_at is None else record.due_at)}
    if record.lease_owner is not None:
        item["leaseOwner"] = {"S": record.lease_owner}
    if record.lease_until is not None:
        item["leaseUntil"] = {"N": repr(record.lease_until)}
    if record.ends_at is not None:
        item["endsAt"] = _number(record.ends_at)
    return item


def _is_key(workflow_id: str) -> bool:
    """Whether a partition key can hold that id."""
    return is_text(workflow_id) and 0 < len(workflow_id.encode()) <= MAX_ID_BYTES


def _number(value: float) -> dict[str, str]:
    return {"N": repr(value)}


def _expired(item: Mapping[str, AttributeValueTypeDef]) -> bool:
    """Whether its time to live is over: DynamoDB deletes it, but may take days."""
    return "expiresAt" in item and float(item["expiresAt"]["N"]) <= time.time()


def _record(item: Mapping[str, AttributeValueTypeDef]) -> Record:
    due_at = float(item["dueAt"]["N"]) if "dueAt" in item else NEVER
    return Record(
        workflow_id=item["workflowId"]["S"],
        workflow=item["workflow"]["S"],
        version=int(item["version"]["N"]),
        status=status_of(item["status"]["S"]),
        state=item["state"]["S"],
        progress=item["progress"]["S"],
        due_at=due_at if due_at < NEVER else None,
        lease_owner=item["leaseOwner"]["S"] if "leaseOwner" in item else None,
        lease_until=float(item["leaseUntil"]["N"]) if "leaseUntil" in item else None,
        ends_at=float(item["endsAt"]["N"]) if "endsAt" in item else None,
    )


def _size(item: _Item) -> int:
    """An item's size as DynamoDB counts it, or a little more: the UTF-8 bytes of names and values."""
    return sum(len(f"{name}{text}".encode()) for name, value in item.items() for text in value.values())
