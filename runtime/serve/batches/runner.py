"""Batches: files of requests, answered beside all other requests.

One batch runs at a time, the oldest first, with as many of its lines in the engine as keep the
slots busy. Each answer is written to the batch's journal at once, so that a server that was
killed goes on from there: no answer is lost, and only unfinished ones are computed again. A line
without a seed draws from its custom_id, so that this makes no difference.

A full disk stops a batch until there is room again. A batch is complete when every line has an
answer in the journal.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runtime.common.command import explain
from runtime.common.files import NO_ROOM
from runtime.serve.answering import ChatShape, CompletionShape, Shape, whole
from runtime.serve.asking import chat_task, completion_task
from runtime.serve.batches import journal
from runtime.serve.batches.journal import Answers, Line
from runtime.serve.batches.store import Store
from runtime.serve.body.schema import BatchBody, ChatBody, CompletionBody
from runtime.serve.errors import ApiError, explain_invalid, invalid
from runtime.serve.service import Service

log = logging.getLogger(__name__)

JsonDict = dict[str, Any]

_RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
# Seconds until a disk that is full is tried again.
_AGAIN = 1.0
# Seconds between two looks for files that have expired, where no batch runs.
_CLEANING = 300.0


class Batches:
    """Runs the batches of a store, which `stop` closes, from `start` on.

    `failure` says why no batch runs at present, or is ""; it is tried again every second.
    """

    def __init__(self, service: Service, store: Store) -> None:
        self.store = store
        self.failure = ""
        self._service = service
        self._wake = asyncio.Event()
        self._cancelled: dict[str, asyncio.Event] = {}
        self._running: dict[str, JsonDict] = {}  # the batch that runs now, by id
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, or go on, in the running event loop."""
        self._task = asyncio.create_task(self._supervise())

    async def _supervise(self) -> None:
        """Run batches, and begin again where that fails."""
        while not self._service.worker.failure:
            try:
                await self._run()
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                if failure != self.failure:
                    log.error("no batch runs: %s", failure, exc_info=True)
                self.failure = failure
                await asyncio.sleep(_AGAIN)

    async def stop(self) -> None:
        """Stop between two answers; the batch goes on with the next `start`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.store.close()

    def add(self, body: BatchBody) -> JsonDict:
        """Accept a batch. Raises ApiError 404 if there is no such file."""
        self.store.file(body.input_file_id)
        now = int(time.time())
        times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling")
        batch: JsonDict = {
            "id": f"batch_{secrets.token_hex(12)}",
            "object": "batch",
            "endpoint": body.endpoint,
            "errors": None,
            "input_file_id": body.input_file_id,
            "completion_window": body.completion_window,
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now,
            "expires_at": None,  # it waits as long as it takes
            **{f"{name}_at": None for name in (*times, "cancelled")},
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": body.metadata,
            "output_expires_after": body.output_expires_after and body.output_expires_after.seconds,
        }
        self.store.write_batch(batch)
        self._wake.set()
        return batch

    def find(self, id_: str) -> JsonDict:
        """A batch as it is now. Raises ApiError 404."""
        return self._running.get(id_) or self.store.batch(id_)

    def listing(self) -> list[JsonDict]:
        """All batches, the newest first."""
        return [self._running.get(batch["id"], batch) for batch in self.store.batches()]

    def cancel(self, id_: str) -> JsonDict:
        """Have a batch stopped; what it has is kept. Raises ApiError."""
        batch = self.find(id_)
        if batch["status"] not in _RUNNING:
            raise ApiError(409, f"the batch is {batch['status']} already", code="not_cancellable")
        self._set(batch, "cancelling")
        self._cancelled.setdefault(id_, asyncio.Event()).set()
        self._wake.set()
        return batch

    def delete_file(self, id_: str) -> None:
        """Delete a file that no running batch needs. Raises ApiError."""
        if any(b["status"] in _RUNNING and b["input_file_id"] == id_ for b in self.listing()):
            raise ApiError(409, "a batch that is not done needs the file", code="in_use")
        self.store.delete_file(id_)

    # Inside

    def _set(self, batch: JsonDict, status: str) -> None:
        batch["status"] = status
        batch[f"{status}_at"] = int(time.time())
        self.store.write_batch(batch)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            waiting = [b for b in reversed(self.store.batches()) if b["status"] in _RUNNING]
            needed = {batch["input_file_id"] for batch in waiting}
            await asyncio.to_thread(self.store.delete_expired, needed)
            self.failure = ""
            if not waiting:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _CLEANING)
                continue
            batch = waiting[0]
            self._running[batch["id"]] = batch
            try:
                await self._process(batch)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    log.error("batch %s waits: %s", batch["id"], explain(error))
                    await asyncio.sleep(_AGAIN)
                    continue  # where it was: nothing is lost
                log.exception("batch %s failed", batch["id"])
                self._fail(batch, "server_error", str(error))
            finally:
                del self._running[batch["id"]]
            if self._service.worker.failure:
                return  # the batch goes on when the server has been started again

    def _fail(self, batch: JsonDict, code: str, message: str) -> None:
        batch["errors"] = {"object": "list", "data": [journal.problem(code, message)]}
        with suppress(OSError):  # it will fail again, and may have room then
            self._set(batch, "failed")

    async def _process(self, batch: JsonDict) -> None:
        source = self.store.content(batch["input_file_id"])
        if not source.exists():
            self._fail(batch, "file_not_found", f"{batch['input_file_id']} has been deleted")
            return
        if batch["status"] == "validating":
            total, problems = await asyncio.to_thread(journal.check, source, batch["endpoint"])
            if problems:
                batch["errors"] = {"object": "list", "data": problems}
                self._set(batch, "failed")
                return
            batch["request_counts"]["total"] = total
            if batch["status"] == "validating":  # it may have been cancelled meanwhile
                self._set(batch, "in_progress")
        answers = await asyncio.to_thread(Answers, self.store.journal(batch["id"]))
        try:
            self._count(batch, answers)
            total = batch["request_counts"]["total"]
            while batch["status"] == "in_progress" and len(answers.done) < total:
                await self._answer_all(batch, source, answers)
                if self._service.worker.failure:
                    return
            if batch["status"] == "in_progress":
                self._set(batch, "finalizing")
            await asyncio.to_thread(self._keep_results, batch, answers)
        finally:
            answers.close()
        self._set(batch, "cancelled" if batch["status"] == "cancelling" else "completed")
        self.store.journal(batch["id"]).unlink(missing_ok=True)

    async def _answer_all(self, batch: JsonDict, source: Path, answers: Answers) -> None:
        """Answer the lines that have no answer yet, unless the batch is cancelled."""
        cancelled = self._cancelled.setdefault(batch["id"], asyncio.Event())
        room = asyncio.Semaphore(2 * self._service.slots)
        tasks: set[asyncio.Task[None]] = set()
        failures: list[Exception] = []

        async def answer(line: Line) -> None:
            try:
                status, body = await self._answer(batch["endpoint"], line)
                if not self._service.worker.failure:
                    await self._keep(answers, line, status, body)
                    self._count(batch, answers)
            except Exception as error:  # the answer could not be kept
                failures.append(error)
            finally:
                room.release()

        stopped = asyncio.create_task(cancelled.wait())
        stopped.add_done_callback(lambda _: room.release())  # what waits for room sees it at once
        try:
            for line in journal.lines(source):
                if line.number in answers.done:
                    continue
                await room.acquire()
                if cancelled.is_set() or self._service.worker.failure or failures:
                    break
                task = asyncio.create_task(answer(line))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            while tasks and not cancelled.is_set():
                await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            left = list(tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if failures:
            raise failures[0]

    async def _keep(self, answers: Answers, line: Line, status: int, body: JsonDict) -> None:
        """Keep an answer, once there is room for it on the disk."""
        result, reported = _result(line, status, body), False
        while True:
            try:
                answers.write(line.number, status >= 400, result)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                if not reported:
                    log.error("line %d of a batch waits: %s", line.number, explain(error))
                reported = True
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _answer(self, endpoint: str, line: Line) -> tuple[int, JsonDict]:
        """The status and body of a line's response."""
        try:
            if line.body.get("stream"):
                raise invalid("a batch has no streams", "stream")
            if endpoint == "/v1/completions":
                completion = CompletionBody.model_validate(line.body)
                shape: Shape = CompletionShape()
                task = await completion_task(self._service, completion, line.custom_id)
            else:
                chat, shape = ChatBody.model_validate(line.body), ChatShape()
                task = await chat_task(self._service, chat, line.custom_id)
            return 200, await whole(self._service, task, shape, limited=False)
        except ValidationError as error:
            failure = explain_invalid(error.errors(), line.body)
        except ApiError as error:
            failure = error
        except Exception as error:  # one bad line never costs the others
            log.exception("line %d of a batch", line.number)
            failure = ApiError(500, f"{type(error).__name__} in the server")
        return failure.status_code, failure.body()

    def _count(self, batch: JsonDict, answers: Answers) -> None:
        counts, failed = batch["request_counts"], answers.n_failed
        counts["failed"], counts["completed"] = failed, len(answers.done) - failed

    def _keep_results(self, batch: JsonDict, answers: Answers) -> None:
        """Make the files of answers and of errors, each if there are any."""
        number = batch["id"].removeprefix("batch_")
        failed = answers.n_failed
        for field, is_error, n in (
            ("output_file_id", False, len(answers.done) - failed),
            ("error_file_id", True, failed),
        ):
            if n:
                name = "errors" if is_error else "output"
                with answers.results(is_error) as made:
                    entry = self.store.add_file(
                        made,
                        f"{batch['id']}_{name}.jsonl",
                        "batch_output",
                        f"file-{number}-{name}",
                        batch.get("output_expires_after"),
                    )
                batch[field] = entry["id"]


def _result(line: Line, status: int, body: JsonDict) -> JsonDict:
    return {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": line.custom_id,
        "response": {
            "status_code": status,
            "request_id": f"req_{secrets.token_hex(12)}",
            "body": body,
        },
        "error": None,
    }
