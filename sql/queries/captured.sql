SELECT system_id, timeline, database_oid, slot, publication, epoch, durable_end FROM waldelta.captures WHERE id = $1
