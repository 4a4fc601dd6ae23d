"""Pilots, and what is changed after publishing: labels, revisions, voided trials, amendments."""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

_WHOLE = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')


def upgrade() -> None:
    op.create_table('amendment',
    sa.Column('number', _WHOLE, nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('content', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('number', name=op.f('pk_amendment')),
    sa.UniqueConstraint('name', name=op.f('uq_amendment_name'))
    )
    with op.batch_alter_table('posting', schema=None) as batch_op:
        batch_op.add_column(sa.Column('label', sa.String(), nullable=False, server_default='main'))
    with op.batch_alter_table('task', schema=None) as batch_op:
        batch_op.add_column(sa.Column('label', sa.String(), nullable=False, server_default='main'))
        batch_op.add_column(sa.Column('retired_at', _WHOLE, nullable=True))
        batch_op.drop_constraint('uq_task_arm', type_='unique')
        batch_op.create_unique_constraint('uq_task_arm', ['arm', 'label', 'number'])
    with op.batch_alter_table('trial', schema=None) as batch_op:
        batch_op.add_column(sa.Column('revision', _WHOLE, nullable=False, server_default='1'))
        batch_op.add_column(sa.Column('voided', sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.create_index(batch_op.f('ix_trial_sprite'), ['sprite'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('trial', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_trial_sprite'))
        batch_op.drop_column('voided')
        batch_op.drop_column('revision')
    with op.batch_alter_table('task', schema=None) as batch_op:
        batch_op.drop_constraint('uq_task_arm', type_='unique')
        batch_op.create_unique_constraint('uq_task_arm', ['arm', 'number'])
        batch_op.drop_column('retired_at')
        batch_op.drop_column('label')
    with op.batch_alter_table('posting', schema=None) as batch_op:
        batch_op.drop_column('label')
    op.drop_table('amendment')
