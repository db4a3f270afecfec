-- A number for the first epoch of a new history: the seconds since 2025 by this database's clock, so that histories that
-- follow one another do not share epochs and a cursor of one is not taken for a cursor of the next. Fits until 2093.
SELECT greatest(1, least(2147483647,
    floor(extract(epoch FROM clock_timestamp() - timestamptz '2025-01-01 00:00:00+00'))))::int
