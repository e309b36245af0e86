-- Columns that are kept in step with their source, filled in the foreground.
CREATE ROLE regress_llama3_owner;
CREATE ROLE regress_llama3_writer;
CREATE SCHEMA shop AUTHORIZATION regress_llama3_owner;
SET ROLE regress_llama3_owner;
SET search_path = shop, public;
CREATE TABLE tickets (id int PRIMARY KEY, body text, author text, label text, words real[]);
INSERT INTO tickets SELECT i, 'ticket ' || i, 'a', CASE WHEN i > 18 THEN 'mine' END FROM generate_series(1, 20) i;
-- counts the rows that are computed
CREATE SEQUENCE computed;
CREATE FUNCTION label_of(body text) RETURNS text LANGUAGE sql VOLATILE AS
	$$ SELECT nextval('shop.computed'); SELECT public.llama_classify(body, ARRAY['bug', 'praise', 'question']) $$;

SELECT llama_sync('tickets', 'label', 'label_of(body)', batch_rows => 6, background => false);
SELECT * FROM llama_syncs;
SELECT pending, failed, filling, rows_filled FROM llama_sync_lag;
CALL llama_sync_run('tickets', 'label');
-- what is not NULL is left alone by default, and each of the others is computed once
SELECT count(*) FILTER (WHERE label = llama_classify(body, ARRAY['bug', 'praise', 'question'])) AS filled,
	count(*) FILTER (WHERE label = 'mine') AS left_alone FROM tickets;
SELECT last_value AS computed FROM computed;
SELECT pending, oldest_pending, failed, filling, rows_filled, last_run IS NOT NULL AS ran, rows_per_second > 0 AS rate FROM llama_sync_lag;

-- only changes of the source queue a row
UPDATE tickets SET author = 'b';
UPDATE tickets SET body = body;
UPDATE tickets SET label = 'other' WHERE id = 20;
SELECT count(*) AS queued FROM tickets_label_queue;
CALL llama_sync_run();
SELECT last_value AS computed FROM computed;
-- insert, update, delete, on conflict, merge, copy
INSERT INTO tickets VALUES (21, 'new'), (22, 'newer'), (23, NULL);
UPDATE tickets SET body = body || '!' WHERE id <= 3;
UPDATE tickets SET body = NULL WHERE id = 4;
DELETE FROM tickets WHERE id IN (1, 5);
INSERT INTO tickets VALUES (6, 'again'), (24, 'newest') ON CONFLICT (id) DO UPDATE SET body = excluded.body;
MERGE INTO tickets t USING (VALUES (7, 'merged'), (25, 'merged too'), (8, NULL)) m (id, body) ON t.id = m.id
	WHEN MATCHED AND m.body IS NULL THEN DELETE
	WHEN MATCHED THEN UPDATE SET body = m.body
	WHEN NOT MATCHED THEN INSERT (id, body) VALUES (m.id, m.body);
COPY tickets (id, body) FROM stdin;
26	copied
27	copied too
\.
WITH a AS (UPDATE tickets SET body = 'in a query' WHERE id = 9), b AS (INSERT INTO tickets VALUES (28, 'in a query'))
	DELETE FROM tickets WHERE id = 10;
SELECT array_agg(key1 ORDER BY key1) AS queued FROM tickets_label_queue;
SELECT pending, oldest_pending IS NOT NULL AS since FROM llama_sync_lag;
CALL llama_sync_run('tickets');
SELECT count(*) FILTER (WHERE label IS NOT DISTINCT FROM llama_classify(body, ARRAY['bug', 'praise', 'question'])) AS filled,
	array_agg(id ORDER BY id) FILTER (WHERE body IS NULL) AS no_body, count(*) FROM tickets;
SELECT last_value AS computed FROM computed;
-- a subtransaction or transaction that is rolled back queues nothing
BEGIN;
UPDATE tickets SET body = 'x' WHERE id = 11;
ROLLBACK;
SELECT count(*) AS queued FROM tickets_label_queue;
-- a key that changes, also by exchange
UPDATE tickets SET id = 100 WHERE id = 11;
SELECT key1 AS queued FROM tickets_label_queue;
TRUNCATE tickets;
SELECT count(*) AS queued FROM tickets_label_queue;

-- more rows than one plan is kept for, and then few again
INSERT INTO tickets SELECT i, 'x' FROM generate_series(1, 300) i;
UPDATE tickets SET body = 'y' WHERE id % 2 = 0;
UPDATE tickets SET body = 'z' WHERE id = 1;
SELECT count(*) AS queued FROM tickets_label_queue;
TRUNCATE tickets;

-- two syncs of one table, one of which reads what the other writes
INSERT INTO tickets SELECT i, 'words of ticket ' || i FROM generate_series(1, 9) i;
SELECT llama_sync('tickets', 'words', 'llama_embed(label || body, 4)', background => false);
CALL llama_sync_run();
CALL llama_sync_run();
SELECT count(*) FILTER (WHERE words = llama_embed(label || body, 4)) AS filled FROM tickets;
SELECT pending FROM llama_sync_lag;
UPDATE tickets SET label = 'by hand' WHERE id = 9;
SELECT pending FROM llama_sync_lag ORDER BY column_name;
CALL llama_sync_run();
SELECT count(*) FILTER (WHERE words = llama_embed(label || body, 4)) AS filled FROM tickets;

-- pause and resume
SELECT llama_sync_pause('tickets', 'label');
UPDATE tickets SET body = 'paused' WHERE id = 2;
CALL llama_sync_run('tickets');
SELECT column_name, state FROM llama_syncs ORDER BY 1;
SELECT column_name, pending FROM llama_sync_lag ORDER BY 1;
SELECT llama_sync_resume('tickets', 'label');
CALL llama_sync_run('tickets', 'label');
SELECT column_name, pending FROM llama_sync_lag WHERE column_name = 'label';
SELECT llama_sync_remove('tickets', 'words');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'tickets'::regclass ORDER BY 1;
SELECT relname FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relname LIKE '%words%';
SELECT count(words) > 0 AS values_stay FROM tickets;
SELECT llama_sync_remove('tickets', 'words');

-- rows that fail: the others are filled, and they are not tried again until they change
CREATE TABLE ratios (a int, b text COLLATE "C", divisor int, ratio int, PRIMARY KEY (a, b));
INSERT INTO ratios SELECT i, 'k' || i, i % 4 FROM generate_series(1, 10) i;
CREATE FUNCTION ratio_of(divisor int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT nextval('shop.computed'); SELECT 100 / divisor $$;
SELECT llama_sync('ratios', 'ratio', 'ratio_of(divisor)', initial => 'all', background => false);
CALL llama_sync_run('ratios');
SELECT target, column_name, key, sqlstate, message FROM llama_sync_errors;
SELECT count(ratio) AS filled FROM ratios;
SELECT pending, failed, sqlstate FROM llama_sync_lag WHERE target = 'ratios'::regclass;
SELECT setval('computed', 1, false);
CALL llama_sync_run('ratios');
SELECT is_called AS computed_again FROM computed;
UPDATE ratios SET divisor = 5 WHERE a = 4;
CALL llama_sync_run('ratios');
SELECT a, ratio FROM ratios WHERE a IN (4, 8);
CREATE OR REPLACE FUNCTION ratio_of(divisor int) RETURNS int LANGUAGE sql AS $$ SELECT 100 / nullif(divisor, 0) $$;
SELECT llama_sync_retry('ratios', 'ratio');
CALL llama_sync_run('ratios');
SELECT pending, failed FROM llama_sync_lag WHERE target = 'ratios'::regclass;
-- a constraint is an error of the row too, also when it is deferred
CREATE TABLE allowed AS SELECT DISTINCT ratio FROM ratios WHERE ratio IS NOT NULL;
ALTER TABLE allowed ADD PRIMARY KEY (ratio);
ALTER TABLE ratios ADD FOREIGN KEY (ratio) REFERENCES allowed DEFERRABLE INITIALLY DEFERRED;
INSERT INTO ratios VALUES (20, 'x', 7), (21, 'y', 2);
CALL llama_sync_run('ratios');
SELECT key, sqlstate, message FROM llama_sync_errors;
SELECT ratio FROM ratios WHERE a = 21;
DELETE FROM ratios WHERE a >= 20;
SELECT count(*) FROM llama_sync_errors;
-- an error that is not a row's ends the run and is not held against the rows
CREATE OR REPLACE FUNCTION ratio_of(divisor int) RETURNS int LANGUAGE plpgsql AS
	$$ BEGIN PERFORM llama_classify('x', ARRAY['a', 'b'], model => 'missing'); RETURN 1; END $$;
ALTER TABLE ratios DROP CONSTRAINT ratios_ratio_fkey;
UPDATE ratios SET divisor = divisor + 1;
CALL llama_sync_run('ratios');
SELECT pending, failed, sqlstate, message FROM llama_sync_lag WHERE target = 'ratios'::regclass;
CREATE OR REPLACE FUNCTION ratio_of(divisor int) RETURNS int LANGUAGE sql AS $$ SELECT 100 / divisor $$;
CALL llama_sync_run('ratios');
SELECT pending, failed, sqlstate, message FROM llama_sync_lag WHERE target = 'ratios'::regclass;
SELECT bool_and(ratio = 100 / divisor) AS in_step FROM ratios;
-- rows that were there before are older than every run, whoever has queued them, and than every change
CREATE TABLE old (id int PRIMARY KEY, body text, n int);
INSERT INTO old VALUES (1, 'x'), (2, 'y');
SELECT llama_sync('old', 'n', 'llama_count_tokens(body, model => ''missing'')', background => false);
CALL llama_sync_run('old');
SELECT pending, oldest_pending FROM llama_sync_lag WHERE target = 'old'::regclass;
INSERT INTO old VALUES (3, 'z');
SELECT pending, oldest_pending IS NOT NULL AS since FROM llama_sync_lag WHERE target = 'old'::regclass;
SELECT key1 FROM old_n_queue ORDER BY queued_at, key1;
DROP TABLE old;
-- whose values the old rows come in: a composite key, all of them once
UPDATE ratios SET ratio = NULL;
SELECT llama_sync_remove('ratios', 'ratio');
INSERT INTO ratios SELECT i % 3, 'l' || i, 1 FROM generate_series(100, 130) i;
SELECT llama_sync('ratios', 'ratio', '100 / divisor', batch_rows => 2, background => false);
CALL llama_sync_run('ratios');
SELECT bool_and(ratio = 100 / divisor) AS in_step, count(*) FROM ratios;
SELECT rows_filled FROM llama_sync_lag WHERE target = 'ratios'::regclass;
SELECT llama_sync_remove('ratios', 'ratio');

-- names and keys with a "$" in them, also where a batch of old rows ends
CREATE TABLE "price$usd" ("sku$keys" text PRIMARY KEY, "$value" int, "label$target" int);
INSERT INTO "price$usd" SELECT 'sku $usd ' || i, i % 5 FROM generate_series(1, 7) i;
SELECT llama_sync('price$usd', 'label$target', '100 / "$value"', batch_rows => 2, background => false);
CALL llama_sync_run('price$usd');
UPDATE "price$usd" SET "$value" = 10 WHERE "sku$keys" = 'sku $usd 3';
UPDATE "price$usd" SET "sku$keys" = 'sku $value 4' WHERE "sku$keys" = 'sku $usd 4';
CALL llama_sync_run('price$usd');
SELECT * FROM "price$usd" ORDER BY 1;
SELECT key, message FROM llama_sync_errors;
DROP TABLE "price$usd";

-- types: no equality, a domain, an array, a composite type that is assigned from real[] as vector is
CREATE TYPE vec AS (v real[]);
CREATE FUNCTION vec_of(real[]) RETURNS vec LANGUAGE sql IMMUTABLE AS $$ SELECT ROW($1)::shop.vec $$;
CREATE CAST (real[] AS vec) WITH FUNCTION vec_of(real[]) AS ASSIGNMENT;
CREATE DOMAIN day AS date CHECK (value > '2000-01-01');
CREATE TABLE kinds (at day, who name, doc json, place point, embedding vec, PRIMARY KEY (at, who));
SET datestyle = 'SQL, DMY';
INSERT INTO kinds SELECT date '2020-01-01' + i, 'w''' || i, json_build_object('i', i) FROM generate_series(1, 15) i;
SELECT llama_sync('kinds', 'embedding', 'llama_embed(doc::text || coalesce(place::text, ''''), 3)', batch_rows => 4, background => false);
SELECT source_columns, key_columns FROM llama_syncs WHERE target = 'kinds'::regclass;
CALL llama_sync_run('kinds');
SELECT count(embedding) FROM kinds;
UPDATE kinds SET doc = doc, place = place;
SELECT count(*) AS queued FROM kinds_embedding_queue;
UPDATE kinds SET place = '(1,2)' WHERE at = date '2020-01-02';
UPDATE kinds SET doc = '{}' WHERE at = date '2020-01-03';
SELECT count(*) AS queued FROM kinds_embedding_queue;
CALL llama_sync_run('kinds');
SELECT bool_and((embedding).v = llama_embed(doc::text || coalesce(place::text, ''), 3)) AS in_step FROM kinds;
RESET datestyle;
SELECT _llama_sync_differ(1, 'a'::text, 1, 'a'::text), _llama_sync_differ(1, NULL::text, 1, NULL::text),
	_llama_sync_differ(1, NULL::text, 1, ''::text), _llama_sync_differ(1.0, 1.00);
SELECT _llama_sync_differ(1, 'a'::text);
SELECT _llama_sync_differ(1, 2, 3);

-- rows of one statement have one time: a batch reads its own of them and not all
CREATE TABLE many (id int PRIMARY KEY, a int, b int);
SELECT llama_sync('many', 'b', 'a + 1', batch_rows => 20, background => false);
INSERT INTO many SELECT i, i FROM generate_series(1, 2000) i;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
CALL llama_sync_run('many');
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT count(*) AS filled FROM many WHERE b = a + 1;
SELECT pg_stat_force_next_flush();
SELECT idx_tup_fetch >= 2000 AS by_index, idx_tup_fetch < 2 * 2000 AS each_about_once
	FROM pg_stat_user_indexes WHERE relname = 'many_b_queue' AND indexrelname LIKE '%tried_at%';
DROP TABLE many;

-- renames and moves are followed; what the expression needs cannot be dropped unnoticed
ALTER TABLE kinds RENAME COLUMN doc TO document;
ALTER TABLE kinds RENAME COLUMN at TO day;
ALTER TABLE kinds RENAME COLUMN embedding TO vector;
ALTER TABLE kinds RENAME TO things;
ALTER TABLE kinds_embedding_queue RENAME TO things_todo;
UPDATE things SET document = '{"renamed": 1}' WHERE who LIKE '%2';
CALL llama_sync_run('things', 'vector');
SELECT bool_and((vector).v = llama_embed(document::text || coalesce(place::text, ''), 3)) AS in_step FROM things;
SELECT target, column_name, expression, key_columns, queue FROM llama_syncs WHERE target = 'things'::regclass;
ALTER TABLE things DROP COLUMN document;
ALTER TABLE things ALTER COLUMN document TYPE text;
DROP TABLE things;
SELECT count(*) FROM pg_class WHERE relname IN ('kinds_embedding_sync', 'things_todo');
SELECT target FROM llama_syncs ORDER BY 1;

-- who may what
GRANT USAGE ON SCHEMA shop TO regress_llama3_writer;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON tickets TO regress_llama3_writer;
RESET ROLE;
SET ROLE regress_llama3_writer;
-- a writer needs no rights on the queue
UPDATE tickets SET body = 'written' WHERE id = 3;
SELECT count(*) FROM llama_syncs;
SELECT count(*) FROM llama_sync_lag;
SELECT count(*) FROM llama_sync_errors;
SELECT llama_sync('tickets', 'author', 'body');
SELECT llama_sync_pause('tickets', 'label');
SELECT llama_sync_resume('tickets', 'label');
SELECT llama_sync_retry('tickets', 'label');
SELECT llama_sync_remove('tickets', 'label');
CALL llama_sync_run('tickets');
CALL llama_sync_run();
SELECT count(*) FROM tickets_label_queue;
SELECT count(*) > 0 AS readable FROM llama_sync_registry;
SELECT count(*) FROM llama_sync_runs;
-- the trigger serves the sync's own table only, and in its own forms
SELECT tgargs AS id FROM pg_trigger WHERE tgname = 'tickets_label_sync_insert' \gset
CREATE TEMP TABLE other (id int PRIMARY KEY);
SELECT format('CREATE TRIGGER foreign_sync AFTER INSERT ON other REFERENCING NEW TABLE AS llama_new EXECUTE FUNCTION _llama_sync_changed(%L)',
	replace(encode(:'id'::bytea, 'escape'), '\000', '')) AS command \gset
:command;
INSERT INTO other VALUES (1);
CREATE TRIGGER row_sync AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION _llama_sync_changed('x');
INSERT INTO other VALUES (2);
DROP TABLE other;
RESET ROLE;
-- a superuser fills with the owner's rights: the expression gains nothing by it
SELECT count(*) AS queued FROM shop.tickets_label_queue;
CREATE OR REPLACE FUNCTION shop.label_of(body text) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT current_user::text $$;
CALL llama_sync_run('shop.tickets');
SELECT label FROM tickets WHERE id = 3;
-- nor can it take the superuser's role back
CREATE OR REPLACE FUNCTION shop.label_of(body text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$ BEGIN RESET ROLE; SET ROLE postgres; RETURN current_user::text; END $$;
UPDATE tickets SET body = 'gain' WHERE id = 4;
CALL llama_sync_run('shop.tickets');
SELECT label = 'postgres' AS gained FROM tickets WHERE id = 4;
-- rows that are deleted without triggers leave the queue when it is filled; looking writes nothing
UPDATE tickets SET body = 'soon gone' WHERE id IN (5, 6);
SET session_replication_role = replica;
DELETE FROM tickets WHERE id = 5;
RESET session_replication_role;
CREATE OR REPLACE FUNCTION shop.label_of(body text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT upper(body) $$;
BEGIN READ ONLY;
SELECT pending, failed FROM llama_sync_lag;
ROLLBACK;
CALL llama_sync_run('shop.tickets');
SELECT pending, failed FROM llama_sync_lag;
SELECT id, label FROM tickets WHERE id IN (4, 5, 6) ORDER BY id;
-- what a superuser sets up belongs to the table's owner
SELECT llama_sync_remove('tickets', 'label');
SELECT llama_sync('tickets', 'label', 'upper(body)', background => false);
SELECT relname, relowner::regrole FROM pg_class WHERE relname LIKE 'tickets_label%' AND relkind IN ('r', 'v') ORDER BY 1;
SET ROLE regress_llama3_owner;

-- arguments
\set VERBOSITY terse
SELECT llama_sync('tickets', 'label', 'body');
SELECT llama_sync(NULL, 'label', 'body');
SELECT llama_sync('tickets', NULL, 'body');
SELECT llama_sync('tickets', 'author', NULL);
SELECT llama_sync('tickets', 'author', 'body', initial => 'some');
SELECT llama_sync('tickets', 'author', 'body', batch_rows => 0);
SELECT llama_sync('tickets', 'author', 'body', batch_rows => 100001);
SELECT llama_sync('tickets', 'author', 'body', source_columns => '{nothing}');
SELECT llama_sync('tickets', 'author', 'body', source_columns => '{author}');
SELECT llama_sync('tickets', 'author', 'body', source_columns => '{NULL}');
SELECT llama_sync('tickets', 'nothing', 'body');
SELECT llama_sync('tickets', 'ctid', 'body');
SELECT llama_sync('tickets', 'id', '1');
SELECT llama_sync('tickets', 'author', '1::text');
SELECT llama_sync('tickets', 'words', 'body');
SELECT llama_sync('tickets', 'body', 'label');
SELECT llama_sync('tickets', 'author', 'author || body');
SELECT llama_sync('tickets', 'author', 'tickets::text');
SELECT llama_sync('tickets', 'author', 'ctid::text');
SELECT llama_sync('tickets', 'author', '(SELECT max(body) FROM tickets)');
SELECT llama_sync('tickets', 'author', 'max(body)');
SELECT llama_sync('tickets', 'author', 'first_value(body) OVER ()');
SELECT llama_sync('tickets', 'author', 'unnest(words)::text');
SELECT llama_sync('tickets', 'author', 'body, label');
SELECT llama_sync('tickets', 'author', 'body FROM tickets');
SELECT llama_sync('tickets', 'author', 'body; DROP TABLE tickets');
SELECT llama_sync('tickets', 'author', '');
SELECT llama_sync('tickets', 'author', '$1');
SELECT llama_sync('tickets_label_sync', 'value', 'current');
SELECT llama_sync('pg_catalog.pg_class', 'relname', 'relkind::text');
CREATE TABLE no_key (a text, b text);
SELECT llama_sync('no_key', 'b', 'a');
CREATE TABLE parted (a int PRIMARY KEY, b text, c text) PARTITION BY RANGE (a);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (1) TO (10);
SELECT llama_sync('parted', 'b', 'c');
SELECT llama_sync('part', 'b', 'c');
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (tickets);
SELECT llama_sync('child', 'author', 'body');
DROP TABLE child;
CREATE TEMP TABLE own (id int PRIMARY KEY, a text, b text);
SELECT llama_sync('own', 'b', 'a');
CREATE TABLE made (id int PRIMARY KEY, a text, b text GENERATED ALWAYS AS (a || 'x') STORED, n int GENERATED ALWAYS AS IDENTITY, c text);
SELECT llama_sync('made', 'b', 'a');
SELECT llama_sync('made', 'n', '1');
-- a generated column is a source like any other
SELECT llama_sync('made', 'c', 'upper(b)', background => false);
INSERT INTO made VALUES (1, 'a');
CALL llama_sync_run('made');
UPDATE made SET a = 'z';
CALL llama_sync_run('made');
SELECT c FROM made;
ALTER TABLE made FORCE ROW LEVEL SECURITY;
CALL llama_sync_run('made');
CALL llama_sync_run('no_key');
BEGIN;
CALL llama_sync_run('tickets');
ROLLBACK;
SET default_transaction_isolation = 'repeatable read';
CALL llama_sync_run('tickets');
RESET default_transaction_isolation;
\set VERBOSITY default
-- columns that a function reads by itself are named
CREATE FUNCTION author_of(id int) RETURNS text LANGUAGE sql STABLE AS $$ SELECT upper(label) FROM shop.tickets t WHERE t.id = author_of.id $$;
SELECT llama_sync('tickets', 'author', 'author_of(id)', initial => 'none', source_columns => '{label}', background => false);
SELECT source_columns FROM llama_syncs WHERE column_name = 'author';
UPDATE tickets SET label = 'l' WHERE id = 7;
CALL llama_sync_run('tickets', 'author');
SELECT id, author FROM tickets WHERE id IN (7, 8) ORDER BY id;

DROP TABLE own;
RESET ROLE;
RESET search_path;
\set VERBOSITY terse
DROP SCHEMA shop CASCADE;
\set VERBOSITY default
SELECT count(*) FROM llama_syncs;
DROP ROLE regress_llama3_owner, regress_llama3_writer;
