-- What the first version of the schema held after one transaction, as that version wrote it.
INSERT INTO waldelta.captures VALUES
    (1, '18446744073709551608', 3, 4000000000, 'slot', 'publication', 1, '0/1014', 1, '0/1000', 1);
INSERT INTO waldelta.epochs (epoch, start_lsn, partition_bytes, reason) VALUES (1, '0/1000', 65536, 'test');
INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, to_lsn, reason) VALUES (1, 7, '0/1000', '0/1010', 'repaired');
INSERT INTO waldelta.table_schemas VALUES
    (7, 1, 'public', 'orders',
     '[{"name": "id", "type_oid": 23, "type_modifier": -1, "type_name": "integer", "nullable": false, "identity": true},
       {"name": "tags", "type_oid": 1009, "type_modifier": -1, "type_name": "text[]", "nullable": true, "identity": false}]',
     '{0}', 'default', 1, '0/100A', 0);
INSERT INTO waldelta.history_from VALUES (7, 1, '0/1000');
CREATE TABLE waldelta.change_history_e1_0000000000000000
    (LIKE waldelta.change_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);
ALTER TABLE waldelta.change_history ATTACH PARTITION waldelta.change_history_e1_0000000000000000
    FOR VALUES FROM (1, '0/0') TO (1, '0/10000');
INSERT INTO waldelta.change_history
    (epoch, lsn, seq, id, table_name, table_oid, operation, row_key, data, transaction_id, schema_version, "timestamp")
VALUES (1, '0/100A', 0, '6b1d55a8-90c7-4f0e-8d0a-5d4f2a617c93', 'public.orders', 7, 'insert', '[1]',
    '{"id": 1, "tags": ["a"]}', '4106', 1, '2026-01-01 00:00:00+00');
