-- A number for the next epoch: the seconds since 2025 by this database's clock, so that histories that follow one another do
-- not share epochs and a cursor of one is not taken for a cursor of the next; and above all that there were. Fits until 2093.
SELECT greatest((SELECT coalesce(max(epoch), 0) FROM waldelta.epochs) + 1, least(2147483647,
    floor(extract(epoch FROM clock_timestamp() - timestamptz '2025-01-01 00:00:00+00'))))::int
