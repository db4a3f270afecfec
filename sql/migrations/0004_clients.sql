-- Clients that come and go: when each was here, also where it acknowledges nothing.

ALTER TABLE waldelta.clients
    ALTER COLUMN cursor DROP NOT NULL,
    ADD COLUMN acked_at timestamptz,
    ADD COLUMN first_seen_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN protocol text,
    ADD COLUMN user_agent text;

UPDATE waldelta.clients SET first_seen_at = seen_at, acked_at = seen_at;

COMMENT ON TABLE waldelta.clients IS 'What is kept of each client while it is away. Nothing that must be right depends on it.';
COMMENT ON COLUMN waldelta.clients.cursor IS
    'The last cursor that it acknowledged, as text of fixed width: text order is stream order. Null: none yet.';
COMMENT ON COLUMN waldelta.clients.acked_at IS 'When it last acknowledged one.';
COMMENT ON COLUMN waldelta.clients.seen_at IS 'When it was last here, to the minute or so.';
COMMENT ON COLUMN waldelta.clients.first_seen_at IS 'When it was here for the first time.';
COMMENT ON COLUMN waldelta.clients.protocol IS 'The protocol version that it spoke last.';
COMMENT ON COLUMN waldelta.clients.user_agent IS 'What its program called itself last.';
