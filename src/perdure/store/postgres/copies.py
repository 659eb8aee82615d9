"""Is the whole store sound, and how is it copied while work goes on?

PostgreSQL checks its pages by itself (data checksums, pg_amcheck) and brings its own tools for copies; docs/cluster.md
says how to use them for a point in time. This is the simple one: a dump of our schema.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from psycopg import conninfo

from perdure.errors import InvalidSetting, StoreError
from perdure.store.postgres.connections import Connection, Connections
from perdure.store.queries import load_queries


async def find_problems(connections: Connections) -> list[str]:
    """What is wrong with the journals and rows; empty when all is sound."""

    async def look(connection: Connection) -> list[str]:
        cursors = [await connection.execute(sql) for sql in load_queries("postgres", "check").values()]
        return [str(found) for cursor in cursors for (found,) in await cursor.fetchall()]

    return await connections.transact(look, seconds=None)


def back_up(url: str, place: str, target: str) -> None:
    """A dump of the schema `perdure` at `target`, in pg_dump's custom format, whole or not at all.

    Raises InvalidSetting when `target` exists, StoreError when it cannot be made.
    """
    program = shutil.which("pg_dump")
    if program is None:
        raise StoreError(f"{place}: a backup needs pg_dump, of the server's version or newer, on PATH")
    if Path(target).exists():
        raise InvalidSetting(f"{target} exists. A backup never overwrites: name a new file, or remove it first.")
    part = Path(f"{target}.{secrets.token_hex(4)}.part")
    values = {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items() if value is not None}
    # In the environment, where other users of the machine cannot read it.
    secret = {"PGPASSWORD": values.pop("password")} if "password" in values else {}
    command = [program, "--format=custom", "--schema=perdure", f"--file={part}", conninfo.make_conninfo(**values)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **secret})  # noqa: S603
        if done.returncode:
            raise StoreError(f"{place}: pg_dump failed: {done.stderr.strip()}")
        os.link(part, target)
    except FileExistsError:
        raise InvalidSetting(f"{target} exists. A backup never overwrites: name a new file.") from None
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
