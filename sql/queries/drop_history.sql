-- Only what the migrations and the migrator made; whatever else stands in the schema stays.
DROP TABLE IF EXISTS waldelta.change_history, waldelta.clients, waldelta.history_from, waldelta.table_schemas,
    waldelta.source_fingerprints, waldelta.skips, waldelta.leases, waldelta.gaps, waldelta.captures, waldelta.epochs,
    waldelta._sqlx_migrations;
