"""leases of workers

Revision: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("lease", sa.Double(), nullable=False, server_default=sa.text("30")))
    rename("grace_until", "watched_since")


def downgrade() -> None:
    op.execute("ALTER TABLE workers DROP COLUMN lease")
    rename("watched_since", "grace_until")


def rename(old: str, new: str) -> None:
    # Without its row the next sweep is the first one, which gives everybody a lease to be heard.
    op.execute("DELETE FROM upkeep")
    op.execute(f"ALTER TABLE upkeep RENAME COLUMN {old} TO {new}")
