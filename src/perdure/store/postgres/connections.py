"""How does a store reach its database? A few connections, each opened when it is needed and replaced when it breaks.

A connection belongs to a call only while the call talks to the server: none is held across a model or tool call, and
a run that waits holds none. Reads and single statements that may be repeated are tried again for a while when the
server goes away (a restart, a failover); then they raise StoreBusy, and whoever asked decides.

Behind PgBouncer in transaction mode every transaction may have another server: nothing is prepared, nothing is set for
a session and nobody is told of changes. The process number that the pooler invents gives it away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import conninfo

from perdure.errors import InvalidSetting, StoreError
from perdure.store.postgres.failures import is_away, is_undone, store_error
from perdure.store.postgres.steady import SteadyConnection

T = TypeVar("T")
Connection: TypeAlias = SteadyConnection
Params: TypeAlias = "Sequence[Any] | Mapping[str, Any]"

#: How long one request may take before the connection counts as lost. A lease is over by then.
REQUEST_SECONDS = 15.0
#: How long a call goes on trying while the server is away.
_PATIENCE_SECONDS = 5.0
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4)

#: Of a host list the one that accepts writes; a peer that vanished is noticed while we wait for it (milliseconds, seconds).
_DEFAULTS: dict[str, Any] = {
    "target_session_attrs": "read-write", "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2,
    "keepalives_count": 3, "tcp_user_timeout": 10_000, "application_name": "perdure",
}  # fmt: skip
#: What a server does by itself when we are gone: locks must not outlive their owner's lease. Our statements are small and
#: always the same: planning them anew for their values, or compiling them, costs more than running them.
_SESSION = (
    f"-c statement_timeout={REQUEST_SECONDS:.0f}s -c idle_in_transaction_session_timeout=4s "
    f"-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 "
    f"-c jit=off -c plan_cache_mode=force_generic_plan"
)


class Connections:
    """The ways to one database, for one event loop; `most` are lent at a time, to calls that take turns."""

    def __init__(self, url: str, most: int) -> None:
        given = _read_url(url)
        self._given = {**_DEFAULTS, **given}
        self.url = url
        #: the database, as errors name it
        self.place = f"postgresql://{given.get('host', 'localhost')}/{given.get('dbname', given.get('user', ''))}"
        #: a pooler stands between
        self.pooled = False
        self._free: list[Connection] = []
        self._room = asyncio.Semaphore(most)
        self._closed = False

    async def open(self) -> None:
        """See whether the database is there, and what stands between. Raises StoreError."""
        self._closed = False
        try:
            self._free.append(await self.connect())
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise store_error(error, self.place) from error

    async def close(self) -> None:
        """Close what is not in use; what is, when it is given back."""
        self._closed = True
        while self._free:
            await self._free.pop().close()

    async def connect(self) -> Connection:
        """One more connection, which is the caller's. Raises the driver's errors; StoreError when the store is closed."""
        if self._closed:
            raise StoreError(f"{self.place}: the store is closed. Call open() first.")
        if self.pooled:
            return await self._connect({})
        try:
            connection = await self._connect({"options": f"{_SESSION} {self._given.get('options') or ''}"})
        except psycopg.OperationalError as error:
            if "unsupported startup parameter" not in str(error):
                raise
            self.pooled = True
            return await self._connect({})
        try:
            row = await (await connection.execute("select pg_backend_pid()")).fetchone()
        except BaseException:
            await drop(connection)
            raise
        self.pooled = row is not None and row[0] != connection.pgconn.backend_pid
        connection.prepare_threshold = None if self.pooled else 2
        return connection

    async def fetch(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement that may be repeated. Raises StoreError."""

        async def run(connection: Connection) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(sql, params)
            return await cursor.fetchall() if cursor.description else []

        return await self.use(run)

    async def transact(self, work: Callable[[Connection], Awaitable[T]], seconds: float | None = REQUEST_SECONDS) -> T:
        """Do `work` in a transaction; all of it may be repeated. `seconds` None: it may take its time. Raises StoreError."""

        async def run(connection: Connection) -> T:
            async with connection.transaction():
                if seconds is None:
                    await connection.execute("set local statement_timeout = 0")
                return await work(connection)

        return await self.use(run, seconds)

    async def use(self, work: Callable[[Connection], Awaitable[T]], seconds: float | None = REQUEST_SECONDS) -> T:
        """Do `work`, which may be repeated, on a free connection, again while the server is away. Raises StoreError."""
        give_up = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        for pause in pauses():
            try:
                async with self._borrowed() as connection, asyncio.timeout(seconds):
                    return await work(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                late = asyncio.get_running_loop().time() > give_up
                if late or self._closed or not (is_away(error) or is_undone(error)):
                    raise store_error(error, self.place) from error
            await asyncio.sleep(pause)
        raise AssertionError("the pauses never end")

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Connection]:
        async with self._room:
            connection = self._free.pop() if self._free else await self.connect()
            sound = False
            try:
                yield connection
                sound = True
            except psycopg.Error as error:
                # One whose server became a standby lives on: the next try must look for the new primary.
                idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
                sound = idle and not connection.closed and not is_away(error)
                raise
            finally:
                if sound and not self._closed:
                    self._free.append(connection)
                else:
                    await drop(connection)

    async def _connect(self, extra: dict[str, Any]) -> Connection:
        # Whatever the database's own encoding is: the server translates, and refuses what it cannot.
        info = conninfo.make_conninfo(**{**self._given, **extra, "client_encoding": "utf8"})
        async with asyncio.timeout(REQUEST_SECONDS):
            return await SteadyConnection.connect(info, autocommit=True, prepare_threshold=None)


def _read_url(url: str) -> dict[str, Any]:
    """What the URL says. The errors do not repeat it: what cannot be read may be a part of the password."""
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = {"host": "@"}
    ports = str(given.get("port", "5432")).split(",")
    if "@" in f"{given.get('host', '')}{given.get('dbname', '')}" or not all(
        port.isdecimal() or not port for port in ports
    ):
        raise InvalidSetting(
            "this is no PostgreSQL URL: write postgresql://user:password@host:5432/database?option=value, with the "
            "characters : / ? # [ ] @ % of a password as %3A %2F %3F %23 %5B %5D %40 %25"
        )
    return given


async def drop(connection: Connection) -> None:
    """Close a connection whose other end may be gone."""
    with suppress(psycopg.Error, OSError):
        await connection.close()


def pauses() -> Iterator[float]:
    """How long to wait before each next try (seconds): short at first, never longer than the last."""
    yield from _PAUSES_SECONDS
    while True:
        yield _PAUSES_SECONDS[-1]
