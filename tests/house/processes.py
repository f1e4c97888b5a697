"""`--processes 6`: tests in processes forked from the one that has collected them, file by file.

To import and collect all tests takes eight seconds, and as long for every process that does it by itself: here it is done once.
A process asks for its next file when the last test of one is to be torn down (`Next`), so that no file waits for a process while
another has nothing to do; files go out in the order of collection, those of one `unit_of` to one process. It sends each test's
reports when the test has ended; the first process shows them as if it had run the test. A process that dies fails the test it was at,
and another goes on after it. `tests/house/test_processes.py` runs a suite that passes, fails, hangs on to things and dies.
"""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

FORK = multiprocessing.get_context("fork")
UNFORKABLE = ("chdb",)
"""Libraries that start threads when they are imported, which a forked process would not have."""


class Processes:
    """`run` returns when all items of the session have been run, or it is to end early (`session.shouldfail`)."""

    def __init__(self, session: pytest.Session, count: int, unit_of: Callable[[pytest.Item], str]) -> None:
        self._session, self._count = session, count
        units: dict[str, list[int]] = {}
        for index, item in enumerate(session.items):
            units.setdefault(unit_of(item), []).append(index)
        self._waiting = deque(units.values())
        self._running: dict[Connection, tuple[BaseProcess, deque[int]]] = {}
        """With the items that each has still to run, in their order."""

    def run(self) -> None:
        if threaded := [name for name in UNFORKABLE if name in sys.modules]:
            raise pytest.UsageError(f"imported while tests were collected, must be imported where used: {threaded}")
        self._session.config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
        try:
            for _ in range(min(self._count, len(self._waiting))):
                self._start()
            while self._running and not self._is_over():
                for line in wait(list(self._running)):
                    assert isinstance(line, Connection)
                    self._hear(line)
        finally:
            for line, (process, _) in self._running.items():
                line.close()
                process.join()

    def _is_over(self) -> bool:
        return bool(self._session.shouldfail or self._session.shouldstop)

    def _start(self) -> None:
        folder = self._session.config._tmp_path_factory.mktemp("process")  # type: ignore[attr-defined]
        ours, theirs = Pipe()
        process = FORK.Process(target=_work, args=(self._session, theirs, [*self._running, ours], folder))
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # its two threads, OpenBLAS's and
            process.start()  # jemalloc's, know of forks
        theirs.close()
        self._running[ours] = process, deque()

    def _hear(self, line: Connection) -> None:
        process, owed = self._running[line]
        try:
            said = line.recv()
        except EOFError:
            del self._running[line]
            process.join()
            if owed or process.exitcode:
                self._died(process, owed)
            return
        if said is None:
            unit = self._waiting.popleft() if self._waiting else []
            owed.extend(unit)
            line.send(unit)
        else:
            self._show(owed.popleft(), *said)

    def _show(self, index: int, reports: Iterable[dict[str, Any]], warned: Iterable[dict[str, Any]]) -> None:
        config, item = self._session.config, self._session.items[index]
        hook = config.hook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for one in warned:
            hook.pytest_warning_recorded.call_historic(kwargs=one)
        for data in reports:
            hook.pytest_runtest_logreport(report=hook.pytest_report_from_serializable(config=config, data=data))
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _died(self, process: BaseProcess, owed: deque[int]) -> None:
        said = f"the process of this test ended with {process.exitcode}"
        if not owed:
            raise RuntimeError(f"{said}, after its last")
        item = self._session.items[index := owed.popleft()]
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", said, "call")
        data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        self._show(index, [data], [])
        if owed:
            self._waiting.appendleft([*owed])
        if self._waiting:
            self._start()


class _Next:
    """The item after the last one of a file. Asked for where pytest wants to know what of a test's surroundings stays."""

    def __init__(self, line: Connection, items: Sequence[pytest.Item]) -> None:
        self._line, self._items = line, items
        self._unit: list[int] | None = None

    def listchain(self) -> list[Any]:
        unit = self.unit()
        return self._items[unit[0]].listchain() if unit else []

    def unit(self) -> list[int]:
        if self._unit is None:
            self._line.send(None)
            self._unit = self._line.recv()
        return self._unit


class _Said:
    """What would be shown of a test, to be sent."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: list[dict[str, Any]] = []
        self._warned: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self._config.hook
        self._reports.append(hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        one = warning_message
        plain = warnings.WarningMessage(str(one.message), one.category, one.filename, one.lineno)  # type: ignore[arg-type]
        self._warned.append({"warning_message": plain, "when": when, "nodeid": nodeid, "location": location})

    def take(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        taken = self._reports, self._warned
        self._reports, self._warned = [], []
        return taken


def _work(session: pytest.Session, line: Connection, others: Sequence[Connection], folder: Path) -> None:
    """Run what is given until nothing is, in a process of its own; `folder` holds its tests' folders."""
    for one in others:
        one.close()
    config = session.config
    config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.start_global_capturing()
    capture.suspend_global_capture()
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(said := _Said(config))
    said.take()  # warnings of the collection, which it was told again
    try:
        following = _Next(line, session.items)
        while unit := following.unit():
            following = _Next(line, session.items)
            for index, after in zip(unit, [*map(session.items.__getitem__, unit[1:]), following], strict=True):
                config.hook.pytest_runtest_protocol(item=session.items[index], nextitem=after)
                line.send(said.take())
                if session.shouldfail or session.shouldstop:
                    return
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the first process has ended, or ends this
    finally:
        session._setupstate.teardown_exact(None)
