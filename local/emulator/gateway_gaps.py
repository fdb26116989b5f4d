"""What the emulator leaves out when it imports an API: gateway responses and request validation.

AWS takes both from the API's own definition, which SAM writes from template.yaml. The emulator implements
both, but reads only paths and keys from a definition; so they are set here, from that same definition,
through the API that an operator would use.
"""

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient

    from local.emulator.stack import Stack

_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})


def complete_import(stack: "Stack") -> None:
    """Set the stack's gateway responses, models and request validators as its definition asks for them."""
    cloudformation = stack.session.client("cloudformation", endpoint_url=stack.endpoint)
    template: Any = cloudformation.get_template(StackName=stack.name, TemplateStage="Processed")[
        "TemplateBody"
    ]
    definition = template["Resources"]["Api"]["Properties"]["Body"]
    gateway = stack.session.client("apigateway", endpoint_url=stack.endpoint)
    api_id = str(urlsplit(stack.outputs["ApiUrl"]).hostname).partition(".")[0]
    _set_gateway_responses(gateway, api_id, definition)
    _set_validation(gateway, api_id, definition)
    # As on AWS, a stage serves what the API was when it was deployed.
    gateway.create_deployment(restApiId=api_id, stageName=urlsplit(stack.outputs["ApiUrl"]).path.strip("/"))


def _set_gateway_responses(gateway: "APIGatewayClient", api_id: str, definition: Any) -> None:
    for response_type, response in definition["x-amazon-apigateway-gateway-responses"].items():
        status = {"statusCode": response["statusCode"]} if "statusCode" in response else {}
        gateway.put_gateway_response(
            restApiId=api_id,
            responseType=response_type,
            responseParameters=response.get("responseParameters", {}),
            responseTemplates=response.get("responseTemplates", {}),
            **status,
        )


def _set_validation(gateway: "APIGatewayClient", api_id: str, definition: Any) -> None:
    for name, schema in definition["components"]["schemas"].items():
        gateway.create_model(
            restApiId=api_id, name=name, contentType="application/json", schema=json.dumps(schema)
        )
    validators = {
        name: gateway.create_request_validator(
            restApiId=api_id,
            name=name,
            validateRequestBody=validator["validateRequestBody"],
            validateRequestParameters=validator["validateRequestParameters"],
        )["id"]
        for name, validator in definition["x-amazon-apigateway-request-validators"].items()
    }
    resources = {
        resource["path"]: resource["id"]
        for resource in gateway.get_resources(restApiId=api_id, limit=500)["items"]
    }
    for path, operations in definition["paths"].items():
        if path not in resources:  # a condition has left it out
            continue
        for method, operation in _if_so(operations).items():
            validator = _if_so(operation).get("x-amazon-apigateway-request-validator")
            if method not in _METHODS or validator is None:
                continue
            schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            where = {"restApiId": api_id, "resourceId": resources[path], "httpMethod": method.upper()}
            as_imported = gateway.get_method(**where)
            gateway.put_method(
                **where,
                authorizationType=as_imported["authorizationType"],
                apiKeyRequired=as_imported["apiKeyRequired"],
                requestValidatorId=validators[validator],
                requestModels={"application/json": schema.rpartition("/")[2]},
            )
            integration = as_imported["methodIntegration"]
            gateway.put_integration(
                **where,
                type=integration["type"],
                integrationHttpMethod=integration["httpMethod"],
                uri=integration["uri"],
            )


def _if_so(part: Any) -> Any:
    """What stands in a definition when its condition is true."""
    return part["Fn::If"][1] if "Fn::If" in part else part
