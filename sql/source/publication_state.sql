-- One row if the publication exists: whether it publishes the canary's updates.
SELECT publication.pubupdate AND EXISTS (
    SELECT FROM pg_catalog.pg_publication_tables
    WHERE pubname = publication.pubname AND schemaname = 'waldelta' AND tablename = 'canary'
)
FROM pg_catalog.pg_publication AS publication
WHERE publication.pubname = $1
