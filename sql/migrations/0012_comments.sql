-- What each table and column is, where somebody looks who has only psql: \d+ waldelta.change_history. The reference of the SQL objects is
-- made of this.
COMMENT ON TABLE waldelta.captures IS 'What is captured, and how far history is. One row.';
COMMENT ON COLUMN waldelta.captures.system_id IS 'The source''s system identifier, as IDENTIFY_SYSTEM prints it.';
COMMENT ON COLUMN waldelta.captures.timeline IS 'The source''s timeline.';
COMMENT ON COLUMN waldelta.captures.database_oid IS 'Object id of the captured database.';
COMMENT ON COLUMN waldelta.captures.slot IS 'The replication slot.';
COMMENT ON COLUMN waldelta.captures.publication IS 'The publication.';
COMMENT ON COLUMN waldelta.captures.epoch IS 'The current epoch.';
COMMENT ON COLUMN waldelta.captures.durable_end IS 'Everything of the epoch that committed strictly below it is stored.';
COMMENT ON COLUMN waldelta.captures.floor_epoch IS 'The epoch of floor_lsn.';
COMMENT ON COLUMN waldelta.captures.token IS 'Fencing token of the writer that may move durable_end.';
COMMENT ON COLUMN waldelta.captures.began_at IS 'When history began.';
COMMENT ON COLUMN waldelta.captures.moved_at IS 'When durable_end moved last.';

COMMENT ON COLUMN waldelta.epochs.epoch IS 'Its number; one that is newer has a higher one.';
COMMENT ON COLUMN waldelta.epochs.partition_bytes IS 'WAL bytes that one partition of change_history spans in it.';
COMMENT ON COLUMN waldelta.epochs.reason IS 'Why it began.';
COMMENT ON COLUMN waldelta.epochs.started_at IS 'When it began.';

COMMENT ON COLUMN waldelta.gaps.found_at IS 'When it was found.';

COMMENT ON TABLE waldelta.leases IS 'Who writes history. One row: there is one writer, which renews it.';
COMMENT ON COLUMN waldelta.leases.token IS 'Fencing token: what a writer with a lower one appends is refused.';
COMMENT ON COLUMN waldelta.leases.holder IS 'The writer, for people.';
COMMENT ON COLUMN waldelta.leases.backend_pid IS 'Process of the writer''s connection; null: released.';
COMMENT ON COLUMN waldelta.leases.backend_start IS 'When that process began.';
COMMENT ON COLUMN waldelta.leases.taken_at IS 'When the writer took it.';
COMMENT ON COLUMN waldelta.leases.renewed_at IS 'When the writer said last that it lives.';

COMMENT ON TABLE waldelta.table_schemas IS 'Each version of each captured table''s shape, and the change that first has it.';
COMMENT ON COLUMN waldelta.table_schemas.table_oid IS 'Object id of the table at the source, the same through renames.';
COMMENT ON COLUMN waldelta.table_schemas.version IS 'Number of the version, from 0.';
COMMENT ON COLUMN waldelta.table_schemas.schema_name IS 'The table''s schema then.';
COMMENT ON COLUMN waldelta.table_schemas.table_name IS 'The table''s name then.';
COMMENT ON COLUMN waldelta.table_schemas.columns IS 'The columns: [{name, type_oid, type_modifier, type_name, nullable, identity}].';
COMMENT ON COLUMN waldelta.table_schemas.key IS 'The key''s columns, as indexes into columns, from 0.';
COMMENT ON COLUMN waldelta.table_schemas.identity IS 'REPLICA IDENTITY: default, nothing, full, index.';
COMMENT ON COLUMN waldelta.table_schemas.epoch IS 'The epoch of lsn.';
COMMENT ON COLUMN waldelta.table_schemas.lsn IS 'Commit of the first change that has this version.';
COMMENT ON COLUMN waldelta.table_schemas.seq IS 'Place of that change in its transaction.';

COMMENT ON TABLE waldelta.history_from IS 'From where on everything of a table is stored.';
COMMENT ON COLUMN waldelta.history_from.table_oid IS 'Object id of the table.';
COMMENT ON COLUMN waldelta.history_from.epoch IS 'The epoch of lsn.';
COMMENT ON COLUMN waldelta.history_from.baseline IS 'Whether the rows that existed then are stored too, as operation baseline.';

COMMENT ON COLUMN waldelta.clients.client_id IS 'The client id; of who authenticates a JSON array: ["subject","id"], or ["issuer","subject","id"].';

COMMENT ON COLUMN waldelta.change_history.lsn IS 'Where the commit record of the transaction begins. No key by itself: see epoch.';
COMMENT ON COLUMN waldelta.change_history."timestamp" IS 'When the transaction committed, by the source''s clock.';
COMMENT ON COLUMN waldelta.change_history.epoch IS 'The uninterrupted incarnation of the source that lsn belongs to.';
COMMENT ON COLUMN waldelta.change_history.seq IS 'Place of the change in its transaction, from 0.';
COMMENT ON COLUMN waldelta.change_history.table_oid IS 'Object id of the table; null where the change is of none.';
COMMENT ON COLUMN waldelta.change_history.id IS 'Made of source, epoch, lsn and seq: the same after any replay.';
COMMENT ON COLUMN waldelta.change_history.table_name IS 'Schema and name of the table then.';
COMMENT ON COLUMN waldelta.change_history.row_key IS 'The row''s key, as a JSON array of the key columns'' values; of an update that changes it, the new one.';
COMMENT ON COLUMN waldelta.change_history.data IS 'The row after the change, as to_jsonb prints it; null where there is none.';
COMMENT ON COLUMN waldelta.change_history.old_data IS 'The row before the change, as far as REPLICA IDENTITY gives it.';
COMMENT ON COLUMN waldelta.change_history.client_id IS 'Who said, by waldelta.set_client, that the transaction is theirs.';

COMMENT ON COLUMN waldelta.retention_marks.epoch IS 'The place: epoch and lsn.';
COMMENT ON COLUMN waldelta.skips.ordered_by IS 'Who ordered it.';
COMMENT ON COLUMN waldelta.skips.why IS 'The reason that was given.';
COMMENT ON COLUMN waldelta.tokens.created_at IS 'When it was made.';
COMMENT ON COLUMN waldelta.tickets.expires_at IS 'Until when it can be used.';
