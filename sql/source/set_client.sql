CREATE OR REPLACE FUNCTION waldelta.set_client(client_id text, metadata jsonb DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY INVOKER
SET search_path = pg_catalog
AS $waldelta$
BEGIN
    IF client_id IS NULL OR client_id = '' OR char_length(client_id) > 128 THEN
        RAISE EXCEPTION 'client_id has to have 1 to 128 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(metadata) <> 'object' OR octet_length(metadata::text) > 65536 THEN
        RAISE EXCEPTION 'metadata has to be a JSON object of at most 65536 bytes'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_logical_emit_message(true, 'waldelta.author',
        jsonb_build_object('client_id', client_id, 'metadata', metadata)::text);
END
$waldelta$;
REVOKE ALL ON FUNCTION waldelta.set_client(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION waldelta.set_client(text, jsonb) IS
    'Says whose the current transaction is: its changes are confirmed to that client, and not echoed. Metadata is kept with each change.'
