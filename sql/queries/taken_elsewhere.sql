-- Those of these clients whose newest connection came to another process.
SELECT client_id, connection FROM waldelta.clients WHERE client_id = ANY($1::text[]) AND process <> $2
