"""Everything on one machine: the emulator, the demo companies, the stack deployed between them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from local import companies
from local.companies import SOURCES, Companies
from local.emulator import deployment, ministack
from local.emulator.ministack import Emulator
from local.emulator.stack import Stack

type Progress = Callable[[str], AbstractContextManager[object]]
"""Called with what is about to be done; the context that it returns lasts as long as that takes."""


@dataclass(frozen=True)
class System:
    """A stack on the emulator that asks the demo companies."""

    emulator: Emulator
    companies: Companies
    stack: Stack


@contextmanager
def running(
    directory: Path, *, parameters: Mapping[str, str] | None = None, progress: Progress = nullcontext
) -> Iterator[System]:
    """The whole system for the length of a `with` block; logs go to `directory`.

        with system.running(tmp_path, parameters={"LookupDeadlineSeconds": "4"}) as everything:
            ...

    `parameters` are the template's, beside the companies' URLs. Raises `StartError` or
    `DeploymentError`.
    """
    with ExitStack() as ends:
        with progress("starting the three demo companies"):
            demo_companies = ends.enter_context(companies.running(directory))
        with progress("starting the AWS emulator (MiniStack)"):
            aws = ends.enter_context(ministack.running(directory))
        urls = {f"{source.capitalize()}Url": demo_companies.base_url(source) for source in SOURCES}
        urls["CrmUrl"] = demo_companies.crm_url
        with deployment.build_lock():
            with progress("building functions and layers (sam build)"):
                deployment.build(directory)
            with progress("deploying template.yaml to the emulator (sam deploy)"):
                deployed = deployment.deploy(directory, aws.endpoint, {**urls, **(parameters or {})})
        yield System(aws, demo_companies, deployed)
