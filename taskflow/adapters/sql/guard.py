"""The database's own guard of the lifecycle: an update that takes an arrow that does not exist is refused."""

from __future__ import annotations

import sqlalchemy as sa

from taskflow.core.job import State
from taskflow.core.lifecycle import TRANSITIONS


def arrows() -> str:
    """Every allowed change of state within the live table, as a SQL list of texts."""
    live = set(State) - {State.SUCCEEDED, State.CANCELLED, State.EXPIRED}
    pairs = [f"'{old}>{new}'" for old in State for new in State if new in TRANSITIONS[old] and new in live]
    return ", ".join(pairs)


def create_guard(connection: sa.Connection) -> None:
    """Install the guard on the live table."""
    wrong = f"OLD.state <> NEW.state AND OLD.state || '>' || NEW.state NOT IN ({arrows()})"
    if connection.dialect.name == "sqlite":
        connection.execute(
            sa.text(
                f"CREATE TRIGGER jobs_lifecycle BEFORE UPDATE OF state ON jobs WHEN {wrong} "
                "BEGIN SELECT RAISE(ABORT, 'no such transition of a job'); END"
            )
        )
        return
    # No percent sign in here: drivers and offline scripts disagree on how one is written.
    connection.execute(
        sa.text(
            "CREATE FUNCTION taskflow_no_such_transition() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION USING MESSAGE = 'no such transition of a job: ' || OLD.state || ' > ' || NEW.state, "
            "ERRCODE = '23514'; END $$"
        )
    )
    connection.execute(
        sa.text(
            f"CREATE TRIGGER jobs_lifecycle BEFORE UPDATE OF state ON jobs FOR EACH ROW WHEN ({wrong}) "
            "EXECUTE FUNCTION taskflow_no_such_transition()"
        )
    )


def drop_guard(connection: sa.Connection) -> None:
    """Take the guard away."""
    if connection.dialect.name == "sqlite":
        connection.execute(sa.text("DROP TRIGGER IF EXISTS jobs_lifecycle"))
        return
    connection.execute(sa.text("DROP TRIGGER IF EXISTS jobs_lifecycle ON jobs"))
    connection.execute(sa.text("DROP FUNCTION IF EXISTS taskflow_no_such_transition()"))
