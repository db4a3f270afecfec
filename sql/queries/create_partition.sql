-- Run as one transaction. Attaching takes a lock on the parent that lets readers and writers go on; CREATE ... PARTITION OF
-- would not. The new table is empty, so attaching has nothing to scan and needs no matching CHECK, which would be
-- evaluated for every row ever after.
CREATE TABLE waldelta.{name} (LIKE waldelta.change_history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);
ALTER TABLE waldelta.change_history ATTACH PARTITION waldelta.{name}
    FOR VALUES FROM ({epoch}, '{low}') TO ({epoch}, '{high}');
