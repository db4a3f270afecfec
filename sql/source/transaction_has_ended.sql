-- Whether the transaction with this id (32 bits, as the WAL has it) has released its lock on it, which it does only after
-- everybody can see what it did.
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_locks
    WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted AND transactionid = ($1::int8)::text::xid
)
