-- How old what is stored is, in order.
SELECT epoch, lsn, (extract(epoch FROM at) * 1000000)::bigint AS at_us FROM waldelta.retention_marks ORDER BY epoch, lsn
