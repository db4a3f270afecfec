-- What was noted by a clock that was set back since then would be in the future.
INSERT INTO waldelta.retention_marks AS noted (epoch, lsn, at)
VALUES ($1, $2, timestamptz 'epoch' + $3::bigint::float8 * interval '1 microsecond')
ON CONFLICT (epoch, lsn) DO UPDATE SET at = least(noted.at, excluded.at)
