INSERT INTO waldelta.clients AS known (client_id, cursor) VALUES ($1, $2)
ON CONFLICT (client_id) DO UPDATE SET cursor = greatest(known.cursor, EXCLUDED.cursor), seen_at = now()
