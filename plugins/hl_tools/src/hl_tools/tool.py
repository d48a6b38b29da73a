"""One granted callable: how a guest's call reaches it, under its limits."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from pydantic import BaseModel, ValidationError

from hl_tools.described import DescribedTool
from hl_tools.models import ToolDescription, ToolLimits
from hl_tools.signature import signature_of
from hl_tools.worker import EventLoop, in_thread, wait
from hyperlight_core.errors import CallLimitError, HostFunctionError, ToolError
from hyperlight_core.functions import HostCall, HostFunction
from hyperlight_core.handover import Handover

__all__ = ["Tool"]

_log = logging.getLogger(__name__)

#: Characters of an exception's text that the guest gets.
_MESSAGE_LIMIT = 4096


class Tool:
    """A callable under a name.

    Args:
        name: of the host function.
        function: what is granted.
        limits: what a guest may ask of it.
        loop: where coroutines run.

    Raises:
        ConfigurationError: its arguments or its result cannot be checked.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any] | DescribedTool,
        limits: ToolLimits,
        loop: EventLoop,
    ) -> None:
        self.name = name
        self._function: Any = function
        self._limits, self._loop = limits, loop
        if isinstance(function, DescribedTool):
            self._signature, self._doc = function.signature, function.description
        else:
            self._signature, self._doc = signature_of(function), inspect.getdoc(function) or ""
        self._busy = threading.Semaphore(limits.concurrent)
        self._run = -1
        self._calls = 0

    def host_function(self) -> HostFunction:
        """The tool as core knows it; a direct call unless it needs watching."""
        limits, signature = self._limits, self._signature
        waits = signature.is_async or limits.timeout is not None
        watched = waits or limits.calls_per_run is not None
        return HostFunction(
            name=self.name,
            handler=self._call_watched if watched else self._call,
            request=signature.request,
            response=signature.response,
            doc=self._doc.partition("\n")[0],
            wants_call=watched,
            blocking=waits,
            errors=(ToolError, CallLimitError) if watched else (ToolError,),
            result_limit=limits.result_size,
        )

    def describe(self) -> ToolDescription:
        """The tool for a model to read."""
        signature = self._signature
        return ToolDescription(
            name=self.name.removeprefix("tools."),
            description=self._doc,
            parameters=signature.request.model_json_schema(),
            result=signature.response.model_json_schema(mode="serialization"),
        )

    def _call(self, request: BaseModel) -> BaseModel:
        return self._outcome(self._signature.bind(self._function, request))

    def _call_watched(self, request: BaseModel, call: HostCall) -> BaseModel:
        self._count(call)
        work = self._signature.bind(self._function, request)
        if not self._signature.is_async and self._limits.timeout is None:
            return self._outcome(work)
        return self._outcome(lambda: self._elsewhere(work, call))

    def _elsewhere(self, work: Callable[[], Any], call: HostCall) -> Any:
        """Off this thread, which makes the calls into the guest meanwhile."""
        future: Future[Any]
        with Handover() as handover:
            if self._signature.is_async:
                future = self._loop.submit(self._awaited(work))
            else:
                future = in_thread(self.name, lambda: self._counted(work))
            return wait(self.name, future, call, self._limits.timeout, handover)

    def _count(self, call: HostCall) -> None:
        if call.run != self._run:
            self._run, self._calls = call.run, 0
        limit = self._limits.calls_per_run
        if limit is not None and self._calls >= limit:
            raise CallLimitError(f"{self.name} may be called {limit} times in a run")
        self._calls += 1

    def _counted(self, work: Callable[[], Any]) -> Any:
        self._begin()
        try:
            return work()
        finally:
            self._busy.release()

    async def _awaited(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self._begin()
        try:
            return await work()
        finally:
            self._busy.release()

    def _begin(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise CallLimitError(f"{self.name} is still busy with earlier calls", errno="EBUSY")

    def _outcome(self, work: Callable[[], Any]) -> BaseModel:
        """The result of `work`, checked; what it raises, in terms the guest may know."""
        try:
            result = work()
        except HostFunctionError:
            raise
        except Exception as error:
            _log.info("%s raised", self.name, exc_info=True)
            raise _told(error) from error
        try:
            return self._signature.response(result)
        except ValidationError as error:
            _log.exception("%s returned what its annotation does not allow", self.name)
            raise ToolError("the result does not match the tool's return annotation") from error


def _told(error: Exception) -> ToolError:
    name = type(error).__name__
    if isinstance(error, OSError):
        # The text of an OSError names files of the host.
        known = HostFunctionError.from_os_error(error)
        return ToolError(f"{name}: {known.message}", errno=known.errno_name, data={"type": name})
    return ToolError(f"{name}: {error}"[:_MESSAGE_LIMIT], data={"type": name})
