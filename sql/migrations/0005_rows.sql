-- Finding what befell one row, and the first change at or after a time.
--
-- Indexes are made on the parent alone (ON ONLY), which takes a moment however much there is. Partitions that come later get
-- theirs with them; for those that are there it is built in the background, while appends go on: see missing_indexes.sql. A
-- partition's index is named as the partition, with the ending that the parent's has behind change_history.

-- Where a row left its key. The key before is stored with the change, as row_key is: the same hash, and readers compare again.
-- Changes of a key are rare, so the index is small.
CREATE INDEX change_history_moved_idx
    ON ONLY waldelta.change_history (hashtextextended(metadata ->> 'moved_from', table_oid::bigint), lsn)
    WHERE metadata ? 'moved_from';

-- What all rows of a table share.
CREATE INDEX change_history_table_idx
    ON ONLY waldelta.change_history (table_oid, lsn)
    WHERE operation IN ('truncate', 'reset', 'skip');

-- Commit times do not rise with positions, but nearly. Rows are stored in the order of positions, so both are bounded by runs
-- of pages.
CREATE INDEX change_history_time_idx
    ON ONLY waldelta.change_history USING brin (lsn, "timestamp") WITH (autosummarize = on);

COMMENT ON COLUMN waldelta.change_history.metadata IS
    'author: what the author attached; unchanged: columns that were not sent; flagged: columns that jsonb cannot hold as they '
    'are; truncate, origin, transactional; moved_from: the row''s key before, where an update changed it.';
COMMENT ON INDEX waldelta.change_history_moved_idx IS 'Changes by which a row left its key.';
COMMENT ON INDEX waldelta.change_history_table_idx IS 'Changes that concern all rows of a table.';
COMMENT ON INDEX waldelta.change_history_time_idx IS 'The first change at or after a time.';
