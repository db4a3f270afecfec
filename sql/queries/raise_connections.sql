-- Sequences are not copied by logical replication: where history was moved by it, numbers go on above those that are there.
SELECT setval('waldelta.client_connections', greatest(known.highest, nextval('waldelta.client_connections')))
FROM (SELECT max(connection) AS highest FROM waldelta.clients) known
WHERE known.highest > (SELECT last_value FROM waldelta.client_connections)
