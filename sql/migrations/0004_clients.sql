-- Clients that come and go: when each was here, also where it acknowledges nothing, and which of its connections is the newest.

ALTER TABLE waldelta.clients
    ALTER COLUMN cursor DROP NOT NULL,
    ADD COLUMN acked_at timestamptz,
    ADD COLUMN first_seen_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN protocol text,
    ADD COLUMN user_agent text,
    ADD COLUMN process bigint,
    ADD COLUMN process_before bigint,
    ADD COLUMN connection bigint;

UPDATE waldelta.clients SET first_seen_at = seen_at, acked_at = seen_at;

-- Counts the connections of all clients. Clocks of processes differ; this rises for all of them.
-- Whoever migrates may be another role than the one that owns the table, and only a member of it.
CREATE SEQUENCE waldelta.client_connections;
DO $$
BEGIN
    EXECUTE format('ALTER SEQUENCE waldelta.client_connections OWNER TO %s',
                   (SELECT relowner::regrole FROM pg_class WHERE oid = 'waldelta.clients'::regclass));
END
$$;
ALTER SEQUENCE waldelta.client_connections OWNED BY waldelta.clients.connection;

COMMENT ON TABLE waldelta.clients IS
    'What is kept of each client while it is away, until it is forgotten. No stream depends on it.';
COMMENT ON COLUMN waldelta.clients.cursor IS
    'The last cursor that it acknowledged, as text of fixed width: text order is stream order. Null: none yet.';
COMMENT ON COLUMN waldelta.clients.acked_at IS 'When it last acknowledged one.';
COMMENT ON COLUMN waldelta.clients.seen_at IS 'When it was last here, to the minute or so.';
COMMENT ON COLUMN waldelta.clients.first_seen_at IS 'When it was here for the first time.';
COMMENT ON COLUMN waldelta.clients.protocol IS 'The protocol version that it spoke last.';
COMMENT ON COLUMN waldelta.clients.user_agent IS 'What its program called itself last.';
COMMENT ON COLUMN waldelta.clients.process IS
    'The process that its newest connection came to, by a number that each takes at random. It may be gone by now.';
COMMENT ON COLUMN waldelta.clients.process_before IS 'The process that the connection before came to.';
COMMENT ON COLUMN waldelta.clients.connection IS 'The newest connection''s number in client_connections: a higher one is newer.';
