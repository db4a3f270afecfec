-- One stretch of the clients, in the order of their ids: where it ends, and how many of it were forgotten. A client that somebody
-- writes is here, so nobody is waited for. The clock is that of this database, which wrote the times too.
WITH stretch AS MATERIALIZED (
    SELECT client_id, seen_at FROM waldelta.clients WHERE client_id > $1 ORDER BY client_id LIMIT $2
), unseen AS (
    SELECT known.client_id
    FROM waldelta.clients AS known JOIN stretch USING (client_id)
    WHERE known.seen_at < now() - make_interval(secs => $3)
    FOR UPDATE OF known SKIP LOCKED
), forgotten AS (
    DELETE FROM waldelta.clients AS known USING unseen WHERE known.client_id = unseen.client_id RETURNING 1
)
SELECT (SELECT max(client_id) FROM stretch) AS through, (SELECT count(*) FROM forgotten) AS forgotten
