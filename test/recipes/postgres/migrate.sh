#!/bin/sh
# A migration that needs the database of its own container.
psql -q -h 127.0.0.1 -p 5432 -U app -d postgres -v ON_ERROR_STOP=1 <<'SQL'
SET client_min_messages TO warning;
CREATE TABLE IF NOT EXISTS requests (number integer);
INSERT INTO requests SELECT 0 WHERE NOT EXISTS (SELECT FROM requests);
SQL
