-- Jobs over tables.  What crashes, cancels and other sessions do to them is in
-- test/t/022_jobs.pl.
\set VERBOSITY terse
CREATE SCHEMA regress_jobs;
GRANT USAGE ON SCHEMA regress_jobs TO PUBLIC;
SET search_path = regress_jobs, public;
CREATE TABLE items (id int PRIMARY KEY, body text, n int DEFAULT 1, p float8, q float8);
INSERT INTO items SELECT i, nullif('item ' || i, 'item 13'), nullif(i % 50, 0) FROM generate_series(1, 120) i;
CREATE TABLE audit (tab text, id text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO audit VALUES (TG_TABLE_NAME, to_jsonb(NEW)->>'id'); RETURN NEW; END $$;
CREATE TRIGGER note AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION note();

-- every row once, also the one whose answer is NULL; and the right answers
CALL llama_enrich('items', 'p = llama_filter_prob(body, ''is good''), q = llama_score(body, ''use'', 1, 3)', batch_rows => 25);
SELECT count(*) AS updates, count(DISTINCT id) AS of_rows FROM audit;
SELECT count(*) AS rows, count(p) AS filled, bool_and(p = llama_filter_prob(body, 'is good') AND q = llama_score(body, 'use', 1, 3)) AS right
FROM items;
SELECT pid, kind, owner, target, state, rows_done, rows_total, total_is_estimate, rows_failed, rows_locked,
	rows_per_second > 0 AS rate, tokens_per_second > 0 AS tokens, time_left, finished_at >= started_at AS finished, message
FROM llama_progress;

-- again: the same job, and only rows with a NULL
TRUNCATE audit;
UPDATE items SET p = NULL WHERE id IN (3, 77);
TRUNCATE audit;
CALL llama_enrich('items', 'p = llama_filter_prob(body, ''is good''), q = llama_score(body, ''use'', 1, 3)', batch_rows => 1);
SELECT id FROM audit ORDER BY id::int;
SELECT count(*), min(rows_done) AS rows_done, min(rows_total) AS rows_total FROM llama_progress;

-- a condition, with a comment at its end; the assignments are SQL, and in order of nothing
TRUNCATE audit;
UPDATE items SET p = NULL, q = NULL;
TRUNCATE audit;
CALL llama_enrich('items', '(q, p) = (SELECT length(body), items.id) -- both', 'id BETWEEN 10 AND 14 OR id = 20 -- few', batch_rows => 4);
SELECT id, p, q FROM items WHERE p IS NOT NULL ORDER BY id;
SELECT count(*) FROM audit;
SELECT rows_done, rows_total >= rows_done AS total, total_is_estimate FROM llama_progress WHERE total_is_estimate;

-- rows that fail are told, the others are done, and they are not tried again
UPDATE items SET p = NULL, q = 0;
TRUNCATE audit;
CALL llama_enrich('items', 'p = llama_filter_prob(body, ''is good'') / (id % 40)', 'id <> 13');
SELECT j.row_key, j.sqlstate, j.message, j.retry, j.target FROM llama_job_errors j ORDER BY 1;
SELECT id FROM items WHERE p IS NULL ORDER BY id;
SELECT count(*) AS updates, count(DISTINCT id) AS of_rows FROM audit;
SELECT state, rows_done, rows_failed FROM llama_progress ORDER BY job DESC LIMIT 1;
CALL llama_enrich('items', 'p = llama_filter_prob(body, ''is good'') / (id % 40)', 'id <> 13');
SELECT count(*) AS updates FROM audit;
-- when told to they are, but for the one that is done now
UPDATE items SET p = 1 WHERE id = 40;
TRUNCATE audit;
CALL llama_enrich('items', 'p = llama_filter_prob(body, ''is good'') / (id % 40)', 'id <> 13', retry_errors => true);
SELECT count(*) AS updates FROM audit;
SELECT row_key, sqlstate FROM llama_job_errors ORDER BY 1;
-- if all fail, it is not the rows
UPDATE items SET p = NULL;
CALL llama_enrich('items', 'p = 1 / (q::int * id)', 'id > 0', batch_rows => 40);
SELECT state, rows_done, rows_failed FROM llama_progress ORDER BY job DESC LIMIT 1;
-- what is wrong with the call is told at once, and leaves no job
SELECT count(*) AS jobs FROM llama_jobs \gset
CALL llama_enrich('items', 'p = llama_filter_prob(body)');
CALL llama_enrich('items', 'nothing = 1');
CALL llama_enrich('items', 'p = ''a''::date');
CALL llama_enrich('items', 'id = 1');
CALL llama_enrich('nothing', 'p = 1');
CALL llama_enrich('items', '');
CALL llama_enrich('items', 'p = 1, ');
CALL llama_enrich('items', 'p = 1 WHERE false');
CALL llama_enrich('items', 'p = 1; DROP TABLE items');
CALL llama_enrich('items', 'p = 1 RETURNING id');
CALL llama_enrich('items', 'p = 1 FROM audit');
CALL llama_enrich('items', 'p = 1', 'true; DROP TABLE items');
CALL llama_enrich('items', 'p = 1', 'true) OR (true');
CALL llama_enrich('items', 'p = 1', 'true ORDER BY 1');
CALL llama_enrich('items', 'p = 1', 'true /*');
CALL llama_enrich('items', 'p = 1', '');
CALL llama_enrich('items', 'p = 1', batch_rows => 0);
CALL llama_enrich('items', 'p = 1', rows_per_second => 0);
CALL llama_enrich(NULL, 'p = 1');
CALL llama_enrich('items', NULL);
\set VERBOSITY default
CALL llama_enrich('items', 'p = 1 +, q = 2');
CREATE TABLE strict_items (id int PRIMARY KEY, p int NOT NULL);
CALL llama_enrich('strict_items', 'p = 1');
CREATE VIEW item_view AS SELECT * FROM items;
CALL llama_enrich('item_view', 'p = 1');
CREATE TABLE parent (id int, p int);
CREATE TABLE child () INHERITS (parent);
CALL llama_enrich('parent', 'p = 1');
CREATE TABLE keyless_parts (id int, p int) PARTITION BY LIST (id);
CALL llama_enrich('keyless_parts', 'p = 1');
BEGIN;
CALL llama_enrich('items', 'p = 1');
ROLLBACK;
CREATE FUNCTION in_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL llama_enrich('items', 'p = 1'); END $$;
SELECT in_function();
\set VERBOSITY terse
SELECT count(*) - :jobs AS new_jobs FROM llama_jobs;

-- keys of all kinds
CREATE TABLE "Odd ""%s"" %" ("a'%L" text, "B %1$s" timestamptz, "c\" numeric(9, 3), "the v" int, PRIMARY KEY ("B %1$s", "a'%L", "c\"));
INSERT INTO "Odd ""%s"" %" SELECT chr(64 + i % 7) || '''"\{', '2026-01-01'::timestamptz + i / 3 * interval '1.000001 s', i / 7.0 FROM generate_series(1, 50) i;
SET datestyle = 'SQL, DMY';
CALL llama_enrich('"Odd ""%s"" %"', '"the v" = "c\" * 100', batch_rows => 7);
RESET datestyle;
SELECT count(*), count("the v"), bool_and("the v" = ("c\" * 100)::int) AS right FROM "Odd ""%s"" %";
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE TABLE kinds (u uuid, c colour, b bytea, x float8, v int, PRIMARY KEY (c, u, b, x));
INSERT INTO kinds SELECT md5(i::text)::uuid, (ARRAY['red', 'green'])[1 + i % 2]::colour, decode(md5(i::text), 'hex'), 1 / i::float8 FROM generate_series(1, 40) i;
INSERT INTO kinds SELECT md5('x')::uuid, 'red', '\x', x FROM unnest(ARRAY['NaN', 'Infinity', '-Infinity', '-0', '1e-310']::float8[]) x;
CALL llama_enrich('kinds', 'v = length(b)', batch_rows => 3);
SELECT count(*), count(v) FROM kinds;
-- of a kind that cannot be written down: as if there were none
CREATE TABLE arrays (a int[] PRIMARY KEY, v int);
INSERT INTO arrays SELECT ARRAY[i, NULL] FROM generate_series(1, 30) i;
CALL llama_enrich('arrays', 'v = a[1]', batch_rows => 7);
SELECT count(*), count(v) FROM arrays;

-- no key: every row, once where an answer came; rows that move while it reads are found
CREATE TABLE heap (id int, pad text DEFAULT repeat('x', 500), v int);
INSERT INTO heap SELECT i FROM generate_series(1, 400) i;
DELETE FROM heap WHERE id % 10 = 3;
VACUUM heap;
CREATE TRIGGER note AFTER UPDATE ON heap FOR EACH ROW EXECUTE FUNCTION note();
TRUNCATE audit;
CALL llama_enrich('heap', 'v = nullif(id % 4, 3)', batch_rows => 30);
SELECT count(*) AS rows, count(v) AS filled FROM heap;
SELECT count(*) AS updates, count(DISTINCT h.id) AS of_rows FROM audit a JOIN heap h ON a.id = h.id::text WHERE v IS NOT NULL;
SELECT state FROM llama_progress WHERE target = 'heap'::regclass;
-- a failed version of a row is left alone, a new version is tried
UPDATE heap SET v = NULL, pad = left(pad, abs(id - 5)) WHERE id < 9;
CALL llama_enrich('heap', 'v = 60 / length(pad)', 'id < 9');
SELECT row_key ? 'ctid' AS by_ctid, row_key ? 'xmin' AS and_xmin, sqlstate FROM llama_job_errors WHERE target = 'heap'::regclass;
TRUNCATE audit;
CALL llama_enrich('heap', 'v = 60 / length(pad)', 'id < 9');
SELECT count(*) AS updates FROM audit;
UPDATE heap SET pad = 'xx' WHERE id = 5;
CALL llama_enrich('heap', 'v = 60 / length(pad)', 'id < 9');
SELECT id, v FROM heap WHERE id < 9 ORDER BY id;
SELECT count(*) AS errors FROM llama_job_errors WHERE target = 'heap'::regclass;

-- an error that would come with the commit is its row's, too
CREATE TABLE referred (id int PRIMARY KEY);
INSERT INTO referred SELECT generate_series(0, 8);
CREATE TABLE deferred (id int PRIMARY KEY, v int REFERENCES referred DEFERRABLE INITIALLY DEFERRED);
INSERT INTO deferred SELECT generate_series(1, 30);
CALL llama_enrich('deferred', 'v = id % 10', batch_rows => 7);
SELECT row_key, sqlstate FROM llama_job_errors WHERE target = 'deferred'::regclass ORDER BY 1;
SELECT count(v) FROM deferred;

-- partitions, also nested and with rows that move
CREATE TABLE parts (a int, id int, v int, PRIMARY KEY (id, a)) PARTITION BY LIST (a);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 (v int, id int NOT NULL, a int NOT NULL);
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3) PARTITION BY RANGE (id);
CREATE TABLE parts_3_low PARTITION OF parts_3 FOR VALUES FROM (0) TO (50);
CREATE TABLE parts_3_high PARTITION OF parts_3 FOR VALUES FROM (50) TO (1000);
INSERT INTO parts SELECT 1 + i % 3, i FROM generate_series(1, 90) i;
CREATE TRIGGER note AFTER UPDATE ON parts FOR EACH ROW EXECUTE FUNCTION note();
TRUNCATE audit;
CALL llama_enrich('parts', 'v = id * a', batch_rows => 11);
SELECT tableoid::regclass, count(*), bool_and(v = id * a) AS right FROM parts GROUP BY 1 ORDER BY 1;
SELECT count(*), count(DISTINCT id) FROM audit;

-- privileges are those of the caller; jobs are one's own
CREATE ROLE regress_llama3_a;
CREATE ROLE regress_llama3_b;
CREATE ROLE regress_llama3_stats IN ROLE pg_read_all_stats;
SET ROLE regress_llama3_a;
CALL llama_enrich('items', 'p = 1');
RESET ROLE;
GRANT SELECT, UPDATE (p) ON items TO regress_llama3_a;
SET ROLE regress_llama3_a;
CALL llama_enrich('items', 'p = 1, q = 1');
CALL llama_enrich('items', 'p = 1', 'id < 50');
RESET ROLE;
GRANT INSERT ON audit TO regress_llama3_a;
SET ROLE regress_llama3_a;
CALL llama_enrich('items', 'p = 1 / (id - 3)', 'id < 5', retry_errors => true);
SELECT owner, target, state, rows_done, rows_failed FROM llama_progress ORDER BY job;
SELECT job FROM llama_progress ORDER BY job LIMIT 1 \gset
SELECT count(*) FROM llama_job_errors;
SET ROLE regress_llama3_b;
SELECT count(*) FROM llama_progress;
SELECT count(*) FROM llama_job_errors;
\set VERBOSITY sqlstate
SELECT llama_job_cancel(:job);
SET ROLE regress_llama3_stats;
SELECT count(*) > 2 AS all_of_them FROM llama_progress;
SELECT llama_job_cancel(:job);
\set VERBOSITY terse
SET ROLE regress_llama3_a;
SELECT llama_job_cancel(:job);
SELECT llama_job_cancel(:job) AS again;
SET ROLE regress_llama3_b;
\set VERBOSITY sqlstate
SELECT llama_job_forget(:job);
SET ROLE regress_llama3_stats;
SELECT llama_job_forget(:job);
SELECT _llama_jobs_sweep();
\set VERBOSITY terse
SET ROLE regress_llama3_a;
SELECT count(*) FROM llama_progress;
SELECT llama_job_forget(job) FROM llama_job_errors;
SELECT count(*) FROM llama_progress;
SELECT count(*) FROM llama_job_errors;
-- nobody makes or changes another's job, or keeps others from the tables
SET ROLE regress_llama3_b;
INSERT INTO llama_jobs (kind, owner, target, spec, options, settings, background)
VALUES ('enrich', 'regress_llama3_a', 'items', '{}', '{}', '{}', true);
UPDATE llama_jobs SET state = 'queued';
UPDATE llama_jobs SET owner = 'regress_llama3_a';
INSERT INTO llama_job_rows (job, row_key, sqlstate, message, retry) VALUES (:job, '{}', '22000', 'x', false);
DELETE FROM llama_jobs;
BEGIN; LOCK TABLE llama_jobs IN SHARE MODE; ROLLBACK;
BEGIN; LOCK TABLE llama_job_rows IN SHARE MODE; ROLLBACK;
-- nor writes into his own what the launcher, or the views of others, could stumble over
INSERT INTO llama_jobs (kind, owner, target, spec, options, settings, background)
VALUES ('enrich', 'regress_llama3_b', 'items', '{}', '{}', '{}', false) RETURNING id AS mine \gset
UPDATE llama_jobs SET attempts = -2000 WHERE id = :mine;
UPDATE llama_jobs SET attempts = 2147483647 WHERE id = :mine;
UPDATE llama_jobs SET not_before = 'infinity' WHERE id = :mine;
UPDATE llama_jobs SET updated_at = '-infinity' WHERE id = :mine;
UPDATE llama_jobs SET run_started_at = 'infinity' WHERE id = :mine;
UPDATE llama_jobs SET finished_at = 'infinity' WHERE id = :mine;
UPDATE llama_jobs SET rows_done = -9223372036854775808 WHERE id = :mine;
UPDATE llama_jobs SET rows_total = -1 WHERE id = :mine;
UPDATE llama_jobs SET run_rows = -1 WHERE id = :mine;
UPDATE llama_jobs SET run_tokens = -1 WHERE id = :mine;
UPDATE llama_jobs SET sqlstate = 'many of them' WHERE id = :mine;
UPDATE llama_jobs SET message = repeat('x', 2001) WHERE id = :mine;
-- what may be written gives no error, but may give no time
SELECT _llama_job_attach(:mine);
UPDATE llama_jobs SET state = 'running', rows_total = 9223372036854775807, run_rows = 1, run_tokens = 9223372036854775807,
	run_started_at = '4713-01-01 BC', updated_at = '294276-01-01' WHERE id = :mine;
SELECT rows_total, rows_per_second > 0 AS rate, tokens_per_second > 0 AS tokens, time_left FROM llama_progress WHERE job = :mine;
UPDATE llama_jobs SET rows_done = 9223372036854775807, rows_total = 0 WHERE id = :mine;
INSERT INTO llama_job_rows (job, row_key, sqlstate, message, retry) SELECT :mine, to_jsonb(i), '22000', 'x', false FROM generate_series(1, 3) i;
SELECT rows_total, time_left FROM llama_progress WHERE job = :mine;
UPDATE llama_jobs SET rows_done = 1000, rows_total = 8200, run_rows = 500, run_started_at = now(), updated_at = now() + interval '1 minute' WHERE id = :mine;
SELECT rows_failed, time_left FROM llama_progress WHERE job = :mine;
SELECT _llama_job_detach();
UPDATE llama_jobs SET state = 'cancelled' WHERE id = :mine;
SELECT llama_job_forget(:mine);
RESET ROLE;
SELECT llama_job_cancel(-1);
SELECT llama_job_cancel(NULL);
-- what waits for its worker cannot be forgotten
BEGIN;
SELECT llama_enrich_start('items', 'p = 1', 'id = -1') AS waiting \gset
\set VERBOSITY sqlstate
SELECT llama_job_forget(:waiting);
\set VERBOSITY terse
ROLLBACK;
-- row security: only rows that the caller sees
ALTER TABLE items ENABLE ROW LEVEL SECURITY;
CREATE POLICY low ON items TO regress_llama3_a USING (id <= 30);
UPDATE items SET p = NULL;
SET ROLE regress_llama3_a;
CALL llama_enrich('items', 'p = 2', batch_rows => 7);
RESET ROLE;
SELECT count(p), max(id) FILTER (WHERE p = 2) FROM items;
-- rows that may be seen but not be updated are no locked ones, and what a policy or
-- a trigger says of a row is the row's error, though it is called a privilege
CREATE TABLE shared (id int PRIMARY KEY, v int);
CREATE TABLE shared_heap (id int, v int);
INSERT INTO shared SELECT generate_series(1, 60);
INSERT INTO shared_heap TABLE shared;
CREATE FUNCTION only_some() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id IN (40, 50) THEN RAISE insufficient_privilege USING MESSAGE = 'not this one'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER only_some BEFORE UPDATE ON shared FOR EACH ROW EXECUTE FUNCTION only_some();
ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON shared FOR SELECT USING (true);
CREATE POLICY changed ON shared FOR UPDATE USING (id % 20 <> 3 AND id > 25) WITH CHECK (v <> 30);
ALTER TABLE shared_heap ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON shared_heap FOR SELECT USING (true);
CREATE POLICY changed ON shared_heap FOR UPDATE USING (id > 3);
GRANT SELECT, UPDATE (v) ON shared, shared_heap TO regress_llama3_a;
SET ROLE regress_llama3_a;
SET statement_timeout = '1min';
CALL llama_enrich('shared', 'v = id', batch_rows => 25);
CALL llama_enrich('shared_heap', 'v = id');
RESET statement_timeout;
SELECT target, state, rows_done, rows_failed, rows_locked FROM llama_progress WHERE target::text LIKE 'shared%' ORDER BY job;
SELECT row_key, sqlstate, message, retry FROM llama_job_errors WHERE target = 'shared'::regclass AND (row_key->>'id')::int > 22 ORDER BY row_key;
SELECT count(*), min(sqlstate), min(message) FROM llama_job_errors WHERE target = 'shared_heap'::regclass;
-- a privilege that is missing for all rows is none of a row's
RESET ROLE;
ALTER TABLE shared DISABLE TRIGGER only_some;
UPDATE shared SET v = NULL;
REVOKE UPDATE ON shared FROM regress_llama3_a;
GRANT UPDATE (id) ON shared TO regress_llama3_a;
SET ROLE regress_llama3_a;
SELECT job FROM llama_progress WHERE target = 'shared'::regclass \gset
UPDATE llama_jobs SET state = 'queued', resume_at = NULL WHERE id = :job;
CALL _llama_job_run(:job);
SELECT count(*) FROM llama_job_errors WHERE message LIKE '%permission denied%';
RESET ROLE;

-- a search path with other things under the names that are used
CREATE SCHEMA trap;
CREATE TABLE trap.llama_jobs (id bigint);
CREATE FUNCTION trap.note_trap() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION trap._llama_job_attach(bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION trap.jsonb_array_elements(jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION trap.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format';
SET search_path = trap, pg_catalog, regress_jobs, public;
CALL llama_enrich('items', 'q = NULL, p = 3', 'id < 40');
SET search_path = regress_jobs, public;
SELECT count(*) FROM items WHERE p = 3;

SET client_min_messages = warning;
DROP SCHEMA trap, regress_jobs CASCADE;
DROP ROLE regress_llama3_a, regress_llama3_b, regress_llama3_stats;
