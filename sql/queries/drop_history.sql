-- Only what the migrations and the migrator made; whatever else stands in the schema stays.
DROP TABLE IF EXISTS waldelta.change_history, waldelta.clients, waldelta.history_from, waldelta.table_schemas,
    waldelta.source_fingerprints, waldelta.skips, waldelta.leases, waldelta.audit, waldelta.tokens,
    waldelta.revocations, waldelta.tickets, waldelta.access_revisions, waldelta.gaps, waldelta.captures, waldelta.epochs,
    waldelta.retention_marks, waldelta.prune_orders, waldelta.seals,
    waldelta._sqlx_migrations;
DROP FUNCTION IF EXISTS waldelta.refuse_audit_change;
DROP FUNCTION IF EXISTS waldelta.count_access_change;
