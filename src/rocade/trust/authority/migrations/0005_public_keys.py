"""The public key of an issued certificate: who checks a signature knows the key's id and asks here for the key.

Certificates issued before this have none; they serve for connections, as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "trust_0005"
down_revision = "trust_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("certificate", sa.Column("public_key", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("certificate", "public_key")
