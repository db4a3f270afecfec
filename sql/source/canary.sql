CREATE TABLE IF NOT EXISTS waldelta.canary (
    id int PRIMARY KEY CHECK (id = 1),
    beat bigint NOT NULL,
    at timestamptz NOT NULL
) WITH (fillfactor = 10);
INSERT INTO waldelta.canary (id, beat, at) VALUES (1, 0, now()) ON CONFLICT (id) DO NOTHING;
COMMENT ON TABLE waldelta.canary IS
    'One row at the source, updated now and then: that the change arrives shows that capture works while nothing else happens.';
COMMENT ON COLUMN waldelta.canary.beat IS 'How often it was updated.';
COMMENT ON COLUMN waldelta.canary.at IS 'When, by the clock of the source.'
