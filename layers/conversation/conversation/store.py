"""Conversations in DynamoDB: one item each, every write conditional, every read consistent.

How an item lives:

    create ──▶ ONGOING ──▶ SUCCESS │ NOT_FOUND │ FAILED     written by the state machine, once
                  │
                  └──────▶ TIMED_OUT                        written by the first reader past deadlineAt

All of these writes carry the condition `status = ONGOING`, so exactly one of them happens. The state
machine's also carry `deadlineAt > now`. A reader that finds ONGOING past the deadline does not merely
say TIMED_OUT: it writes it first, because a conclusion that is on its way at that moment would otherwise
land behind its back and the next reader would see another final status.

An id may come again, once a conversation has expired or was erased. What was on its way for the earlier one
must not reach the later one: every write and every repeated read names the start that it belongs to.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from conversation import aws, timestamps
from conversation.attributes import Plan, plan_change, plan_client_change, total_bytes
from conversation.errors import ConversationNotFound, StoreUnavailable
from conversation.observability import count, logger
from conversation.record import Conversation, SourceStatus, StartClaim, Status
from conversation.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, UniversalAttributeValueTypeDef

    type Item = Mapping[str, AttributeValueTypeDef]
    type Values = dict[str, UniversalAttributeValueTypeDef]

# A writer meets a conflict only when another one wrote the same attribute, or the last free room, between
# its read and its write. Thirty such conflicts in a row mean that something else is wrong.
_MAX_CONFLICTS = 30


@cache
def conversations() -> ConversationStore:
    """Return the store of this execution environment, over the table that its settings name."""
    return ConversationStore(aws.dynamodb(), StoreSettings.from_environment().table_name)


class ConversationStore:
    """The conversations in one table.

        store = ConversationStore(aws.dynamodb(), "Conversations")
        conversation = store.read("6c5c")

    What a method returns is as it stands when it returns, however slow DynamoDB was: never ONGOING past the
    deadline. Every method raises StoreUnavailable when DynamoDB does not do its part; the same call may be
    repeated.
    """

    def __init__(self, client: DynamoDBClient, table_name: str) -> None:
        self._client = client
        self._table = table_name

    def create(self, conversation: Conversation) -> Conversation | None:
        """Write a new conversation, or return the one that is there already and still kept."""
        unknown = "attribute_not_exists(conversationId)"
        expired = "expiresAt <= :now"
        try:
            self._client.put_item(
                TableName=self._table,
                Item=_to_item(conversation),
                ConditionExpression=f"{unknown} OR {expired}",
                ExpressionAttributeValues={":now": _epoch(timestamps.now())},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            existing = _from_item(_item_behind(error))
        except BotoCoreError as error:
            raise _unavailable(error) from error
        else:
            return None
        if existing.claim and conversation.claim and existing.claim.token == conversation.claim.token:
            return None  # our own write: its answer was lost and botocore sent it again
        return self.as_it_stands(existing)

    def read(self, conversation_id: str) -> Conversation:
        """Read the conversation that has this id now.

        Raises ConversationNotFound when it is unknown or has expired.
        """
        try:
            answer = self._client.get_item(
                TableName=self._table, Key={"conversationId": {"S": conversation_id}}, ConsistentRead=True
            )
        except (ClientError, BotoCoreError) as error:
            raise _unavailable(error) from error
        conversation = _from_item(answer["Item"]) if "Item" in answer else None
        if conversation is None or conversation.has_expired(timestamps.now()):
            raise _not_found(conversation_id)
        return self.as_it_stands(conversation)

    def read_start(self, conversation_id: str, start_id: str | None) -> Conversation:
        """Read the conversation that began with this start.

        Raises ConversationNotFound when it is no longer kept, though the id may have come again.
        """
        conversation = self.read(conversation_id)
        if conversation.start_id != start_id:
            raise _not_found(conversation_id)
        return conversation

    def as_it_stands(self, conversation: Conversation) -> Conversation:
        """Conclude a conversation whose deadline has passed, or return it, or what has concluded it.

        Raises ConversationNotFound when it is no longer kept.
        """
        now = timestamps.now()
        return self._time_out(conversation, now) if conversation.is_overdue(now) else conversation

    def claim_start(self, conversation_id: str, seen: StartClaim, mine: StartClaim) -> bool:
        """Take over the start of an execution whose claim has run out; tell whether it is ours now."""
        return self._update(
            conversation_id,
            "SET startToken = :token, startClaimedUntil = :until",
            "startToken = :seenToken AND startClaimedUntil = :seenUntil"
            " AND attribute_not_exists(executionArn)",
            {
                ":token": _text(mine.token), ":until": _moment(mine.until),
                ":seenToken": _text(seen.token), ":seenUntil": _moment(seen.until),
            },
        )  # fmt: skip

    def release_start(self, conversation_id: str, mine: StartClaim) -> None:
        """Give the claim back after a start that failed, so that the next request need not wait for it."""
        self._update(
            conversation_id,
            "SET startClaimedUntil = :now",
            "startToken = :mine AND attribute_not_exists(executionArn)",
            {":mine": _text(mine.token), ":now": _moment(timestamps.now())},
        )

    def mark_started(self, conversation_id: str, start_id: str | None, execution_arn: str) -> None:
        """Note which execution works for the conversation, so that a repeated start starts no other."""
        values: Values = {":arn": _text(execution_arn)}
        condition = "attribute_exists(conversationId) AND attribute_not_exists(executionArn)"
        self._update(
            conversation_id,
            "SET executionArn = :arn",
            f"{condition} AND {_same_start(start_id, values)}",
            values,
        )

    def join(
        self, conversation_id: str, journey: str, own: frozenset[str], deletable: frozenset[str]
    ) -> Conversation:
        """Note that a journey follows the conversation, and which attributes are its own from now on.

        The table's stream tells the journey of every later change. What clients have written under the names
        in `own` before is removed; of these, they may delete the `deletable` ones. Returns the conversation
        as it is then. Raises ConversationNotFound.
        """
        seen: Conversation | None = None
        for _ in range(_MAX_CONFLICTS):
            joined, conversation = self._join(conversation_id, journey, own, deletable, seen)
            if joined or journey in conversation.journeys:
                return self.as_it_stands(conversation)
            seen = conversation
        raise _contended()

    def _join(
        self,
        conversation_id: str,
        journey: str,
        own: frozenset[str],
        deletable: frozenset[str],
        seen: Conversation | None,
    ) -> tuple[bool, Conversation]:
        """Join if clients have written nothing under the own names but what was seen, which is removed."""
        adds = {"journeys": {journey}, "journeyAttributes": own, "deletableAttributes": deletable}
        adds = {name: members for name, members in adds.items() if members}
        update = [f"#{name} :{name}" for name in adds]
        names = {f"#{name}": name for name in adds}
        values: Values = {
            ":now": _epoch(timestamps.now()),
            **{f":{name}": {"SS": sorted(members)} for name, members in adds.items()},
        }
        conditions = ["expiresAt > :now"]
        removed: dict[str, str] = {}
        # What a journey that has joined before has written there is no client's word.
        for index, name in enumerate(sorted(own - (seen.journey_attributes if seen else frozenset()))):
            names["#attributes"], names[f"#name{index}"] = "attributes", name
            value = seen.attributes.get(name) if seen else None
            if value is None:
                conditions.append(f"attribute_not_exists(#attributes.#name{index})")
            else:
                removed[f"#attributes.#name{index}"] = name
                values[f":old{index}"] = _text(value)
                conditions.append(f"#attributes.#name{index} = :old{index}")
        if seen and removed:
            update.append("attributeBytes :bytes")
            size = total_bytes({name: seen.attributes[name] for name in removed.values()})
            values[":bytes"] = _number(-size)
        return self._write(
            conversation_id,
            f"ADD {', '.join(update)}" + (f" REMOVE {', '.join(removed)}" if removed else ""),
            " AND ".join(conditions),
            names,
            values,
        )

    def change_attributes(self, conversation_id: str, change: Mapping[str, str | None]) -> Conversation:
        """Set attributes for a client, delete those that have None, touch no other.

        Raises ConversationNotFound, AttributeReserved for a journey's own attribute, InvalidRequest when
        clients would have written too many attributes, and RequestTooLarge when they would be too long.
        """
        return self._change_attributes(
            lambda: self.read(conversation_id),
            lambda seen: plan_client_change(
                seen.attributes, change, seen.journey_attributes, seen.deletable_attributes
            ),
        )

    def change_journey_attributes(
        self, conversation_id: str, start_id: str | None, change: Mapping[str, str | None]
    ) -> Conversation:
        """Do the same for a journey of the conversation that began with this start, within its larger room.

        Raises ConversationNotFound, InvalidRequest, and RequestTooLarge.
        """
        return self._change_attributes(
            lambda: self.read_start(conversation_id, start_id),
            lambda seen: plan_change(seen.attributes, change),
        )

    def _change_attributes(
        self, read: Callable[[], Conversation], make_plan: Callable[[Conversation], Plan | None]
    ) -> Conversation:
        conversation = read()
        for _ in range(_MAX_CONFLICTS):
            plan = make_plan(conversation)
            if plan is None:
                return self.as_it_stands(conversation)
            written, found = self._write_attributes(conversation, plan)
            if found.start_id != conversation.start_id:
                raise _not_found(conversation.conversation_id)
            conversation = found
            if written:
                return self.as_it_stands(conversation)
        raise _contended()

    def _write_attributes(self, seen: Conversation, plan: Plan) -> tuple[bool, Conversation]:
        """Write one plan if what it was made from still stands; return the conversation as it is then."""
        now = timestamps.now()
        names = {"#attributes": "attributes"}
        values: Values = {":updatedAt": _moment(now), ":bytes": _number(plan.byte_delta), ":now": _epoch(now)}
        sets = ["updatedAt = :updatedAt", "attributeBytes = attributeBytes + :bytes"]
        removes: list[str] = []
        conditions = ["expiresAt > :now", _same_start(seen.start_id, values)]
        if seen.journey_attributes:
            values[":journeys"] = {"SS": sorted(seen.journey_attributes)}
            conditions.append("journeyAttributes = :journeys")
        else:
            conditions.append("attribute_not_exists(journeyAttributes)")
        for index, (name, new) in enumerate(plan.after.items()):
            old = plan.before[name]
            path = f"#attributes.#name{index}"
            names[f"#name{index}"] = name
            if old is None:
                conditions.append(f"attribute_not_exists({path})")
            else:
                values[f":old{index}"] = _text(old)
                conditions.append(f"{path} = :old{index}")
            if new is None:
                removes.append(path)
            else:
                values[f":new{index}"] = _text(new)
                sets.append(f"{path} = :new{index}")
        if plan.count_delta > 0:
            values[":countRoom"] = _number(plan.room.count)
            conditions.append("size(#attributes) <= :countRoom")
        if plan.byte_delta > 0:
            values[":byteRoom"] = _number(plan.room.bytes)
            conditions.append("attributeBytes <= :byteRoom")
        return self._write(
            seen.conversation_id,
            f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else ""),
            " AND ".join(conditions),
            names,
            values,
        )

    def _write(
        self, conversation_id: str, update: str, condition: str, names: Mapping[str, str], values: Values
    ) -> tuple[bool, Conversation]:
        """Make one conditional update; return whether its condition held, and the conversation as it is then.

        Raises ConversationNotFound when that is no longer kept.
        """
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key={"conversationId": {"S": conversation_id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ExpressionAttributeNames=names,
            )
        except ClientError as error:
            conversation = _from_item(_item_behind(error))
            if conversation.has_expired(timestamps.now()):
                raise _not_found(conversation_id) from error
            return False, conversation
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return True, _from_item(answer["Attributes"])

    def _time_out(self, conversation: Conversation, now: datetime) -> Conversation:
        """Conclude an overdue conversation, or return what concluded it in the meantime."""
        values: Values = {
            ":timedOut": _text(Status.TIMED_OUT),
            ":ongoing": _text(Status.ONGOING),
            ":now": _moment(now),
        }
        written, found = self._write(
            conversation.conversation_id,
            "SET #status = :timedOut, concludedAt = deadlineAt, updatedAt = :now",
            f"#status = :ongoing AND {_same_start(conversation.start_id, values)}",
            {"#status": "status"},
            values,
        )
        if found.start_id != conversation.start_id:
            raise _not_found(conversation.conversation_id)
        if written:
            logger.warning("identification timed out", conversation_id=conversation.conversation_id)
            count("IdentificationTimedOut")
        return found

    def _update(self, conversation_id: str, update: str, condition: str, values: Values) -> bool:
        """Make one conditional update; tell whether its condition held."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key={"conversationId": {"S": conversation_id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if _is_condition_failure(error):
                return False
            raise _unavailable(error) from error
        except BotoCoreError as error:
            raise _unavailable(error) from error
        return True


def _same_start(start_id: str | None, values: Values) -> str:
    """The condition that the item is still of this start, and its value among `values`."""
    if start_id is None:  # written by the release before start ids
        return "attribute_not_exists(startId)"
    values[":startId"] = _text(start_id)
    return "startId = :startId"


def _is_condition_failure(error: ClientError) -> bool:
    return error.response["Error"]["Code"] == "ConditionalCheckFailedException"


def _item_behind(error: ClientError) -> Item:
    """Return the item that a condition failed on; raise what the error means when that was not the reason."""
    if not _is_condition_failure(error):
        raise _unavailable(error) from error
    item = cast("Item | None", error.response.get("Item"))
    if item is None:
        raise ConversationNotFound("the conversation has expired; start it with POST") from error
    return item


def _unavailable(error: ClientError | BotoCoreError) -> StoreUnavailable:
    return StoreUnavailable(f"DynamoDB did not answer ({aws.reason(error)}); send the request again")


def _contended() -> StoreUnavailable:
    return StoreUnavailable("too many writers changed the same attributes; send the request again")


def _not_found(conversation_id: str) -> ConversationNotFound:
    return ConversationNotFound(f"no conversation {conversation_id} is kept; start it with a POST")


def _text(value: str) -> UniversalAttributeValueTypeDef:
    return {"S": value}


def _number(value: int) -> UniversalAttributeValueTypeDef:
    return {"N": str(value)}


def _moment(value: datetime) -> UniversalAttributeValueTypeDef:
    return {"S": timestamps.to_text(value)}


def _epoch(value: datetime) -> UniversalAttributeValueTypeDef:
    return {"N": str(int(value.timestamp()))}


def _texts(values: Mapping[str, str]) -> UniversalAttributeValueTypeDef:
    return {"M": {key: {"S": value} for key, value in values.items()}}


def _to_item(conversation: Conversation) -> Values:
    """Write a new conversation as an item; what later writes add is not there yet."""
    item: Values = {
        "conversationId": _text(conversation.conversation_id),
        "status": _text(conversation.status),
        "startedAt": _moment(conversation.started_at),
        "updatedAt": _moment(conversation.updated_at),
        "deadlineAt": _moment(conversation.deadline_at),
        "expiresAt": _epoch(conversation.expires_at),
        "sources": _texts(conversation.sources),
        "otherMatches": {"M": {}},
        "attributes": _texts(conversation.attributes),
        "attributeBytes": _number(total_bytes(conversation.attributes)),
    }
    if conversation.start_id is not None:
        item["startId"] = _text(conversation.start_id)
    if conversation.caller_number is not None:
        item["callerNumber"] = _text(conversation.caller_number)
    if conversation.caller_verification != "none":
        item["callerVerification"] = _text(conversation.caller_verification)
    if conversation.reason is not None:
        item["reason"] = _text(conversation.reason)
    if conversation.concluded_at is not None:
        item["concludedAt"] = _moment(conversation.concluded_at)
    if conversation.claim is not None:
        item["startToken"] = _text(conversation.claim.token)
        item["startClaimedUntil"] = _moment(conversation.claim.until)
    return item


def _from_item(item: Item) -> Conversation:
    claim = (
        StartClaim(item["startToken"]["S"], timestamps.from_text(item["startClaimedUntil"]["S"]))
        if "startToken" in item
        else None
    )
    return Conversation(
        conversation_id=item["conversationId"]["S"],
        start_id=item["startId"]["S"] if "startId" in item else None,
        status=Status(item["status"]["S"]),
        caller_number=item["callerNumber"]["S"] if "callerNumber" in item else None,
        started_at=timestamps.from_text(item["startedAt"]["S"]),
        updated_at=timestamps.from_text(item["updatedAt"]["S"]),
        deadline_at=timestamps.from_text(item["deadlineAt"]["S"]),
        expires_at=datetime.fromtimestamp(int(item["expiresAt"]["N"]), UTC),
        concluded_at=timestamps.from_text(item["concludedAt"]["S"]) if "concludedAt" in item else None,
        caller_verification=item["callerVerification"]["S"] if "callerVerification" in item else "none",
        reason=item["reason"]["S"] if "reason" in item else None,
        identity=_identity(item["identity"]) if "identity" in item else None,
        sources={source: SourceStatus(status) for source, status in _from_texts(item["sources"]).items()},
        other_matches={source: _identity(match) for source, match in item["otherMatches"]["M"].items()},
        attributes=_from_texts(item["attributes"]),
        journeys=_names(item, "journeys"),
        journey_attributes=_names(item, "journeyAttributes"),
        deletable_attributes=_names(item, "deletableAttributes"),
        claim=claim,
        execution_arn=item["executionArn"]["S"] if "executionArn" in item else None,
    )


def _from_texts(value: AttributeValueTypeDef) -> dict[str, str]:
    return {key: inner["S"] for key, inner in value["M"].items()}


def _identity(value: AttributeValueTypeDef) -> dict[str, str | int]:
    """Read an identity; one that the release before has written stands for one customer."""
    texts = {key: inner["S"] for key, inner in value["M"].items() if "S" in inner}
    candidates = int(value["M"].get("candidates", {"N": "1"})["N"])
    return {**texts, "candidates": candidates}


def _names(item: Item, attribute: str) -> frozenset[str]:
    return frozenset(item[attribute]["SS"]) if attribute in item else frozenset()
