-- Nothing where the owner, or all together, have so many already.
INSERT INTO waldelta.tickets (hash, owner, identity, expires_at)
SELECT $1, $2, $3, now() + make_interval(secs => $4)
WHERE (SELECT count(*) FROM waldelta.tickets WHERE owner = $2 AND expires_at > now()) < $5
    AND (SELECT count(*) FROM waldelta.tickets) < $6
