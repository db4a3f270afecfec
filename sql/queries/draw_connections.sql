-- A number for each of so many connections, each above all that were drawn before.
SELECT nextval('waldelta.client_connections') FROM generate_series(1, $1::int)
