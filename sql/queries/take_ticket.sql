-- Of all who ask at once, one gets it: the others wait for the row, and it is gone.
DELETE FROM waldelta.tickets WHERE hash = $1 RETURNING identity, expires_at > now()
