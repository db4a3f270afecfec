CREATE TABLE IF NOT EXISTS waldelta.canary (
    id int PRIMARY KEY CHECK (id = 1),
    beat bigint NOT NULL,
    at timestamptz NOT NULL
) WITH (fillfactor = 10);
INSERT INTO waldelta.canary (id, beat, at) VALUES (1, 0, now()) ON CONFLICT (id) DO NOTHING
