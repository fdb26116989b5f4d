"""What AWS asks for and no emulator checks, over the template as SAM's own transform makes it.

Each test names the page or the report that it comes from. docs/aws-conformance.md lists them for operators.
"""

import json
import re
from typing import Any

import pytest

from tests.architecture.deployment import DEFINITION_TEXT, DOCUMENT, FUNCTIONS, LOOKUPS
from tests.architecture.last_release import transformed
from tests.support.template import REPOSITORY


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return transformed(REPOSITORY / "template.yaml")


def of(resources: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: one.get("Properties", {}) for name, one in resources.items() if one["Type"] == kind}


def named(value: Any) -> str:
    """The logical id that a `Ref` or `Fn::GetAtt` points at."""
    if isinstance(value, dict) and "Ref" in value:
        return str(value["Ref"])
    if isinstance(value, dict) and "Fn::GetAtt" in value:
        target = value["Fn::GetAtt"]
        return str(target[0] if isinstance(target, list) else target.partition(".")[0])
    return ""


def statements(resources: dict[str, Any], role: str) -> list[dict[str, Any]]:
    policies = [one.get("Fn::If", [0, one])[1] for one in resources[role]["Properties"].get("Policies", [])]
    policies += [one for one in of(resources, "AWS::IAM::Policy").values() if {"Ref": role} in one["Roles"]]
    return [
        {**one, "Action": listed(one["Action"]), "Resource": listed(one["Resource"])}
        for policy in policies
        for one in policy["PolicyDocument"]["Statement"]
    ]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- recursion: https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html ---------------------


def queues_that_call(resources: dict[str, Any]) -> dict[str, set[str]]:
    """For each function, the queues whose messages invoke it."""
    found: dict[str, set[str]] = {}
    for mapping in of(resources, "AWS::Lambda::EventSourceMapping").values():
        if resources.get(named(mapping["EventSourceArn"]), {}).get("Type") == "AWS::SQS::Queue":
            found.setdefault(named(mapping["FunctionName"]), set()).add(named(mapping["EventSourceArn"]))
    return found


def queues_that_it_sends_to(resources: dict[str, Any], function: str) -> set[str]:
    role = named(resources[function]["Properties"]["Role"])
    return {
        named(resource)
        for one in statements(resources, role)
        if "sqs:SendMessage" in one["Action"]
        for resource in one["Resource"]
    }


def test_a_function_that_calls_itself_through_a_queue_is_allowed_to(resources: dict[str, Any]) -> None:
    """Lambda drops the 17th invocation of a chain: a journey with a timer would stand still."""
    calls_itself = {
        function
        for function, queues in queues_that_call(resources).items()
        if queues & queues_that_it_sends_to(resources, function)
    }
    allowed = {name for name, one in of(resources, "AWS::Lambda::Function").items() if "RecursiveLoop" in one}
    assert calls_itself == allowed == {"RunJourneyFunction"}
    assert resources["RunJourneyFunction"]["Properties"]["RecursiveLoop"] == "Allow"


# --- streams: https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-params.html ------------------------


def test_no_change_is_missed_while_a_stream_mapping_is_made(resources: dict[str, Any]) -> None:
    """At LATEST, records written while a mapping is created or updated may never be seen."""
    positions = {
        name: one["StartingPosition"]
        for name, one in of(resources, "AWS::Lambda::EventSourceMapping").items()
        if "StartingPosition" in one
    }
    assert positions == {"NotifyJourneysFunctionConversationChanges": "TRIM_HORIZON"}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_a_queue_hides_a_message_for_six_times_its_functions_time(
    function: Any, resources: dict[str, Any]
) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html"""
    for queue in queues_that_call(resources).get(function.logical_name, set()):
        hidden = resources[queue]["Properties"]["VisibilityTimeout"]
        assert hidden >= 6 * resources[function.logical_name]["Properties"]["Timeout"]


# --- partitions, accounts, regions -------------------------------------------------------------------------


def test_no_partition_account_or_region_is_written_out() -> None:
    """`arn:aws:` does not exist in China's and the government's regions; SAM writes the region's own."""
    text = (REPOSITORY / "template.yaml").read_text() + DEFINITION_TEXT
    assert re.findall(r"arn:aws[a-z-]*:\S*", text) == []
    assert re.findall(r":\d{12}:|amazonaws\.com\.cn", text) == []


def test_a_role_is_passed_to_one_service_alone(resources: dict[str, Any]) -> None:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html"""
    passing = [
        (role, one)
        for role in of(resources, "AWS::IAM::Role")
        for one in statements(resources, role)
        if "iam:PassRole" in one["Action"]
    ]
    assert {role for role, _ in passing} == {"JourneysApiRole", "RunJourneyRole"}
    for _, one in passing:
        assert one["Condition"] == {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}
        assert one["Resource"] == [{"Fn::GetAtt": ["TimerRole", "Arn"]}]


# Services whose pages ask for the condition, or whose own samples have it. API Gateway's page on its role for
# logs has none, and nothing says that it would send the value.
ASK_FOR_THE_ACCOUNT = {
    # https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
    "scheduler.amazonaws.com",
    # https://docs.aws.amazon.com/step-functions/latest/dg/procedure-create-iam-role.html
    "states.amazonaws.com",
    # https://github.com/aws/agent-toolkit-for-aws, lambda-trust-policy.json
    "lambda.amazonaws.com",
    # https://docs.aws.amazon.com/codedeploy/latest/userguide/security_confused_deputy.html
    "codedeploy.amazonaws.com",
}


def test_a_service_takes_a_role_for_this_account_alone(resources: dict[str, Any]) -> None:
    """Else another account's schedule could have the service act with this account's role."""
    for name, role in of(resources, "AWS::IAM::Role").items():
        for one in role["AssumeRolePolicyDocument"]["Statement"]:
            services = set(listed(one["Principal"]["Service"]))
            condition = one.get("Condition")
            if services <= ASK_FOR_THE_ACCOUNT:
                assert condition == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}, name
            else:
                assert services == {"apigateway.amazonaws.com"}, name


def test_a_caller_of_a_function_is_this_api_alone(resources: dict[str, Any]) -> None:
    for name, one in of(resources, "AWS::Lambda::Permission").items():
        assert {"Ref": "Api"} in flattened(one["SourceArn"]), name


def flattened(value: Any) -> list[Any]:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value, *(each for one in inner for each in flattened(one))]


# --- what is the account's, not the stack's ----------------------------------------------------------------


def test_the_accounts_role_for_logs_is_left_alone_on_request(resources: dict[str, Any]) -> None:
    """One per account and region: setting it takes away whatever another application has set."""
    assert resources["ApiGatewayAccount"]["Condition"] == "SetApiGatewayLogRole"
    assert resources["ApiGatewayAccountRole"]["Condition"] == "SetApiGatewayLogRole"
    assert DOCUMENT["Parameters"]["ApiGatewayLogRole"]["AllowedValues"] == ["set", "keep"]
    for kind in ("AWS::ApiGateway::Account", "AWS::IAM::Role"):
        for name, one in resources.items():
            if one["Type"] == kind and name.startswith("ApiGatewayAccount"):
                assert (one["DeletionPolicy"], one["UpdateReplacePolicy"]) == ("Retain", "Retain")


ACCOUNT_WIDE = {
    "AWS::ApiGateway::Account",
    "AWS::Logs::ResourcePolicy",
    "AWS::XRay::ResourcePolicy",
    "AWS::XRay::TransactionSearchConfig",
    "AWS::IAM::ServiceLinkedRole",
}


def test_nothing_else_of_the_account_is_touched(resources: dict[str, Any]) -> None:
    assert {one["Type"] for one in resources.values()} & ACCOUNT_WIDE == {"AWS::ApiGateway::Account"}


# --- load --------------------------------------------------------------------------------------------------


def test_waiting_readers_are_bounded_where_they_come_in(resources: dict[str, Any]) -> None:
    """Each holds a function: rate times wait of them at once, of the 1,000 that an account has at first."""
    [stage] = of(resources, "AWS::ApiGateway::Stage").values()
    [read] = [one for one in stage["MethodSettings"] if one["HttpMethod"] == "GET"]
    assert read["ResourcePath"].replace("~1", "/").endswith("/conversations/{conversationId}")
    assert read["ThrottlingRateLimit"] == {"Ref": "ReadRateLimit"}
    assert read["ThrottlingBurstLimit"] == {"Ref": "ReadBurstLimit"}
    default = {name: one.get("Default") for name, one in DOCUMENT["Parameters"].items()}
    waiting = default["ReadRateLimit"] * default["MaxWaitSeconds"] + default["ReadBurstLimit"]
    lookups_and_starts = 300
    assert waiting + lookups_and_starts <= 1_000
    reader = resources["ReadConversationFunction"]["Properties"]
    assert reader["Environment"]["Variables"]["MAX_WAIT_SECONDS"] == {"Ref": "MaxWaitSeconds"}


def test_who_is_turned_away_is_told_when_to_come_again(resources: dict[str, Any]) -> None:
    [api] = of(resources, "AWS::ApiGateway::RestApi").values()
    answers = api["Body"]["x-amazon-apigateway-gateway-responses"]
    for name in ("THROTTLED", "QUOTA_EXCEEDED", "DEFAULT_5XX"):
        assert answers[name]["responseParameters"] == {"gatewayresponse.header.Retry-After": "'1'"}


def test_no_answer_is_set_that_api_gateway_does_not_take(resources: dict[str, Any]) -> None:
    """413 can't be customised, and a body over Lambda's 6 MB is answered 413 too.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html
    """
    [api] = of(resources, "AWS::ApiGateway::RestApi").values()
    assert "REQUEST_TOO_LARGE" not in api["Body"]["x-amazon-apigateway-gateway-responses"]


# --- what is kept, and for how long ------------------------------------------------------------------------

KEPT = (REPOSITORY / "docs/data-protection.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, one in DOCUMENT["Resources"].items()
        if one["Type"]
        in {"AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::Logs::LogGroup", "AWS::SecretsManager::Secret"}
    ],
)
def test_the_page_on_data_protection_names_each_store(name: str) -> None:
    generic = "…LogGroup" if name.endswith("LogGroup") else "…Secret" if name.endswith("Secret") else name
    assert f"`{name}`" in KEPT or f"`{generic}`" in KEPT


def test_conversations_have_no_backup_that_outlives_them(resources: dict[str, Any]) -> None:
    """Point-in-time recovery keeps 35 days, and a deleted table's backup as long."""
    for name in ("ConversationTable", "SourceTokenTable"):
        assert "PointInTimeRecoverySpecification" not in resources[name]["Properties"]
    days = resources["WorkflowTable"]["Properties"]["PointInTimeRecoverySpecification"][
        "RecoveryPeriodInDays"
    ]
    assert f"{days} days" in KEPT


def test_queues_keep_messages_as_long_as_the_page_says(resources: dict[str, Any]) -> None:
    for name, queue in of(resources, "AWS::SQS::Queue").items():
        days, rest = divmod(queue["MessageRetentionPeriod"], 86_400)
        assert rest == 0
        assert re.search(rf"`{name}`.*\b{days} days", KEPT)


# --- costs -------------------------------------------------------------------------------------------------


def test_tables_are_encrypted_with_the_key_that_costs_nothing(resources: dict[str, Any]) -> None:
    """`SSEEnabled: true` means the charged key `aws/dynamodb`, asked on the caller's path."""
    for name, table in of(resources, "AWS::DynamoDB::Table").items():
        unless_a_key_is_given, _, otherwise = table["SSESpecification"]["Fn::If"]
        assert (unless_a_key_is_given, otherwise) == ("UseKmsKey", {"Ref": "AWS::NoValue"}), name


def test_functions_log_what_somebody_reads(resources: dict[str, Any]) -> None:
    """Lambda's own lines of each invocation are a third of a log's bytes, and its metrics say the same."""
    for name, function in of(resources, "AWS::Lambda::Function").items():
        logging = function["LoggingConfig"]
        assert (logging["LogFormat"], logging["SystemLogLevel"]) == ("JSON", "WARN"), name
        assert logging["ApplicationLogLevel"] == "INFO", name
        assert named(logging["LogGroup"]), name


# --- sizes that AWS bounds ---------------------------------------------------------------------------------


def test_the_template_stays_within_cloudformations_bounds(resources: dict[str, Any]) -> None:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""
    assert len(resources) <= 500
    assert len(DOCUMENT["Parameters"]) <= 200
    assert len(DOCUMENT["Outputs"]) <= 200
    assert (REPOSITORY / "template.yaml").stat().st_size <= 1_000_000, "from S3, as SAM uploads it"
    assert all(len(one.get("Description", "")) <= 4_000 for one in DOCUMENT["Parameters"].values())


def test_each_loop_has_a_name_of_its_own() -> None:
    """CloudFormation refuses a template whose resources and outputs have a loop of one name."""
    loops = re.findall(r"Fn::ForEach::(\w+):", (REPOSITORY / "template.yaml").read_text())
    assert len(loops) == len(set(loops)) > 0


def test_a_roles_policies_fit(resources: dict[str, Any]) -> None:
    """10,240 characters of inline policies, spaces left out, says IAM's page on quotas."""
    for role in of(resources, "AWS::IAM::Role"):
        assert len(json.dumps(statements(resources, role)).replace(" ", "")) < 8_000


# --- what an operator's company asks for, each off by default ----------------------------------------------

OFF_BY_DEFAULT = {
    "BoundPermissions": "PermissionsBoundaryArn",
    "UseKmsKey": "KmsKeyArn",
    "UseDomainName": "DomainName",
    "UseSubnets": "LookupSubnetIds",
}


@pytest.mark.parametrize(("condition", "parameter"), OFF_BY_DEFAULT.items())
def test_it_is_off_by_default(condition: str, parameter: str) -> None:
    assert DOCUMENT["Parameters"][parameter]["Default"] == ""
    assert condition in DOCUMENT["Conditions"]


def test_a_boundary_bounds_every_role(resources: dict[str, Any]) -> None:
    bounded = {"Fn::If": ["BoundPermissions", {"Ref": "PermissionsBoundaryArn"}, {"Ref": "AWS::NoValue"}]}
    for name, role in of(resources, "AWS::IAM::Role").items():
        assert role["PermissionsBoundary"] == bounded, name


def test_a_key_encrypts_every_store_and_whoever_uses_one_may_use_the_key(resources: dict[str, Any]) -> None:
    stores = {
        "AWS::DynamoDB::Table": "SSESpecification",
        "AWS::SQS::Queue": "KmsMasterKeyId",
        "AWS::SecretsManager::Secret": "KmsKeyId",
        "AWS::Logs::LogGroup": "KmsKeyId",
    }
    for kind, encryption in stores.items():
        for name, store in of(resources, kind).items():
            assert store[encryption]["Fn::If"][0] == "UseKmsKey", name
    may_use_it = {
        named(role)
        for policy in of(resources, "AWS::IAM::Policy").values()
        if policy["PolicyName"] == "UseKmsKey"
        for role in policy["Roles"]
    }
    use_no_store = {"ApiGatewayAccountRole", "SweepScheduleRole"}
    roles = {name for name in of(resources, "AWS::IAM::Role") if not name.endswith("DeploymentRole")}
    assert may_use_it == roles - use_no_store


def test_lookups_alone_are_in_the_operators_network(resources: dict[str, Any]) -> None:
    inside = {name for name, one in of(resources, "AWS::Lambda::Function").items() if "VpcConfig" in one}
    assert inside == {function.logical_name for function in LOOKUPS}


def test_without_journeys_nothing_refers_to_what_they_have(resources: dict[str, Any]) -> None:
    """CloudFormation refuses a reference to what a condition has left out, if the referring part stays."""
    with_journeys = {
        "RunJourneys", "RunJourneysWithKmsKey", "WatchWorkingHours", "UseCodeDeployForJourneys",
    }  # fmt: skip
    theirs = {name for name, one in resources.items() if one.get("Condition") in with_journeys}
    assert len(theirs) > 40
    for name, one in resources.items():
        if name in theirs or one["Type"] == "AWS::ApiGateway::RestApi":  # SAM has its routes in conditions
            continue
        # SAM names a deployment of the API after its hash; it depends on nothing of theirs.
        referred = {named(each) for each in flattened(one)} & theirs
        assert not referred, name


def test_without_journeys_their_routes_are_gone(resources: dict[str, Any]) -> None:
    [api] = of(resources, "AWS::ApiGateway::RestApi").values()
    conditional = {
        path for path, one in api["Body"]["paths"].items() if one.get("Fn::If", [""])[0] == "RunJourneys"
    }
    assert conditional == {
        "/conversations/{conversationId}/journeys/{journey}",
        "/workflows/{workflowId}",
        "/workflows/{workflowId}/events/{event}",
    }
