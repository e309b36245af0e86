-- Rows of a query are asked for together: where the Llama Batch node stands, how
-- far it reads ahead, and that results are those of one call after the other.
CREATE TABLE words (id int, g int, x text);
INSERT INTO words SELECT i, i % 3, CASE WHEN i % 7 <> 0 THEN 'word ' || i % 10 END FROM generate_series(1, 40) i;
CREATE TABLE few AS SELECT * FROM words WHERE id <= 4;
CREATE TABLE none (LIKE words);
CREATE TABLE parts (id int, x text) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (5);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (5) TO (1000);
INSERT INTO parts SELECT id, x FROM words;
CREATE SEQUENCE ticks;
ANALYZE;
SET llama3.filter_selectivity = 0.3;
SET max_parallel_workers_per_gather = 0;

-- a plan, without the arguments that were not given
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
		RETURN NEXT regexp_replace(line, '(, NULL::[a-z ]+(\[\])?)+\)', ')', 'g');
	END LOOP;
END $$;

-- what the topmost batch node did: calls made and reused, rows read
CREATE FUNCTION work(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE node jsonb; answer json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT json) ' || query INTO answer;
	node := jsonb_path_query_first(answer::jsonb, 'strict $.** ? (@."Custom Plan Provider" == "Llama Batch")');
	RETURN coalesce(format('%s made, %s reused, %s rows read', node->'Calls Made', node->'Calls Reused', node#>'{Plans,0,Actual Rows}'),
		'no batch');
END $$;

-- rows, in order, with batching and without
CREATE FUNCTION compare(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE batched text[]; plain text[]; nodes int;
BEGIN
	EXECUTE format('SELECT array_agg(q::text) FROM (%s) q', query) INTO batched;
	SELECT count(*) INTO nodes FROM plan(query) line WHERE line ~ 'Llama Batch';
	SET LOCAL llama3.enable_batching = off;
	EXECUTE format('SELECT array_agg(q::text) FROM (%s) q', query) INTO plain;
	SET LOCAL llama3.enable_batching = on;
	RETURN format('%s nodes, %s rows, %s', nodes, coalesce(cardinality(plain), 0),
		CASE WHEN batched IS NOT DISTINCT FROM plain THEN 'same' ELSE 'different' END);
END $$;

-- --------------------------------------------------------------- positions
-- select list, conditions, both; the same call is made once
SELECT plan('SELECT id, llama_filter(x, ''a'') FROM words');
SELECT plan('SELECT id, llama_filter(x, ''a'') FROM words WHERE id > 3 AND llama_filter(x, ''a'') AND g = 1');
-- conditions keep their order: one is asked only for rows that passed those before
SELECT plan('SELECT id FROM words WHERE llama_filter(x, ''a'') AND llama_filter(x, ''b'')');
-- calls within calls
SELECT plan('SELECT llama_embed(llama_complete(x, 2), 1), llama_embed(x, 1) FROM words');
-- joins: the filter of an inner join; of an outer one, which is completed then; see joins.sql
SELECT plan('SELECT a.id FROM few a, few b WHERE llama_filter(a.x, b.x)');
SELECT plan('SELECT a.id, llama_filter(b.x, ''a'') FROM few a LEFT JOIN few b ON a.id = b.id AND llama_filter(a.x, b.x)');
-- sorting, grouping, having, window functions and their run condition
SELECT plan('SELECT id FROM words ORDER BY llama_filter_prob(x, ''a'')');
SELECT plan('SELECT llama_filter(x, ''a''), count(*) FROM words GROUP BY 1 HAVING llama_filter(max(x), ''b'')');
SELECT plan('SELECT g, llama_filter(max(x), ''a'') FROM words GROUP BY ROLLUP (g)');
SELECT plan('SELECT * FROM (SELECT llama_filter(x, g::text), g, id, row_number() OVER (ORDER BY id) n FROM words) s WHERE n <= 2');
-- arguments of aggregates: below the aggregation, before the groups' own calls
SELECT plan('SELECT g, avg(llama_filter_prob(x, ''a'')), llama_filter(max(llama_complete(x, 1)), ''b'') FROM words GROUP BY g');
-- and over windows, where each row is in a frame; other window functions choose
SELECT plan('SELECT id, sum(llama_filter_prob(x, ''a'')) OVER w, llama_filter(max(x) OVER w, ''b'') FROM words WINDOW w AS (PARTITION BY g ORDER BY id)');
SELECT plan('SELECT avg(llama_filter_prob(x, ''a'')) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), lag(llama_complete(x, 1)) OVER (ORDER BY id), count(llama_filter(x, ''a'')) FILTER (WHERE id > 1) OVER () FROM words');
-- calls after sort and limit
SELECT plan('SELECT id, llama_filter(x, ''a'') FROM words ORDER BY id LIMIT 2');
-- also the rows that OFFSET skips are not asked for, nor those that a sort drops
SELECT plan('SELECT llama_complete(llama_complete(x, 1), 1) FROM words WHERE llama_filter(x, ''a'') ORDER BY id OFFSET 3 FETCH FIRST 2 ROWS WITH TIES');
SELECT plan('SELECT id, llama_filter(x, ''a'') FROM words ORDER BY llama_filter_prob(x, ''b'') LIMIT (SELECT min(id) FROM few)');
SELECT plan('SELECT llama_filter(s.x, ''a''), s.f FROM (SELECT x, llama_filter(x, ''b'') f FROM words ORDER BY id OFFSET 2) s LIMIT 2');
-- but volatile functions are evaluated for skipped rows as ever
SELECT plan('SELECT llama_filter(x, ''a''), random() FROM words ORDER BY id LIMIT 2 OFFSET 1');
SELECT plan('SELECT llama_filter(x, ''a''), random() FROM words ORDER BY id LIMIT 2');
-- writing
SELECT plan('UPDATE words SET x = llama_complete(x, 2) WHERE llama_filter(x, ''a'')');
SELECT plan('INSERT INTO none SELECT id, g, llama_complete(x, 2) FROM words');
SELECT plan('CREATE TABLE made AS SELECT id, llama_complete(x, 2) FROM words');
SELECT plan('DELETE FROM words USING few WHERE words.id = few.id AND llama_filter(words.x, few.x)');
-- subqueries in their arguments
SELECT plan('SELECT id FROM words WHERE llama_filter((SELECT max(x) FROM few WHERE few.id <= words.id), ''a'')');
SELECT plan('SELECT g, count(llama_filter((SELECT max(x) FROM few WHERE few.id <= words.id), x)) FROM words GROUP BY g');
-- subqueries, common table expressions, recursion, partitions
SELECT plan('SELECT id, (SELECT count(*) FROM few WHERE llama_filter(few.x, words.x)) FROM words');
SELECT plan('WITH c AS MATERIALIZED (SELECT id, llama_filter(x, ''a'') f FROM words) SELECT llama_filter(id::text, ''b''), f FROM c');
SELECT plan('WITH RECURSIVE r(i, s) AS (SELECT 1, ''a'' UNION ALL SELECT i + 1, llama_complete(s, 2) FROM r WHERE i < 4) SELECT * FROM r');
SELECT plan('SELECT llama_filter(x, ''a'') FROM parts WHERE llama_filter(x, ''b'')');
-- arguments of set-returning functions, but not what stands beside these
SELECT plan('SELECT id, unnest(llama_classify_multi(llama_complete(x, 1), ''{p,q}'')), llama_filter(x, ''a'') FROM words');
-- functions, constants, sets of rows
SELECT plan('SELECT llama_filter(v, ''a'') FROM (VALUES (''a''), (''b'')) v (v)');
SELECT plan('SELECT llama_filter(i::text, ''a'') FROM generate_series(1, 3) i');
SELECT plan('SELECT llama_filter(''x'', ''a''), llama_filter(''y'', ''a'')');
-- under Gather
RESET max_parallel_workers_per_gather;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT plan('SELECT llama_filter(x, ''a'') FROM words WHERE llama_filter(x, ''b'')');
SELECT compare('SELECT id, llama_filter_prob((SELECT max(x) FROM few WHERE few.id <= words.id), ''a'') FROM words ORDER BY id');
SELECT compare('SELECT id, llama_filter_prob(x, ''a'') FROM words WHERE llama_filter_prob(x, ''b'') < 2 ORDER BY id');
-- each process of a Gather may have all rows that are wanted
SELECT plan('SELECT llama_filter(x, ''a'') FROM words ORDER BY id LIMIT 2 OFFSET 1');
SELECT compare('SELECT id, llama_filter_prob(x, ''a'') FROM words ORDER BY id LIMIT 2 OFFSET 1');
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
SET max_parallel_workers_per_gather = 0;

-- what is evaluated only sometimes is called when its turn comes
SELECT plan('SELECT CASE WHEN id = 1 THEN llama_filter(x, ''a'') WHEN llama_filter(x, ''b'') THEN true ELSE llama_filter(x, ''c'') END FROM words');
SELECT plan('SELECT COALESCE(x, llama_complete(x, 1)), id = 1 AND llama_filter(x, ''b''), id = 1 OR llama_filter(x, ''c'') FROM words');
SELECT plan('SELECT count(*) FILTER (WHERE llama_filter(x, ''a'')), max(llama_filter_prob(x, ''b'')) FILTER (WHERE id > 1) FROM words');
-- and what is evaluated always, in the same places, is not
SELECT plan('SELECT CASE WHEN llama_filter(x, ''a'') THEN 1 END, CASE llama_complete(x, 1) WHEN ''a'' THEN 1 END FROM words');
SELECT plan('SELECT COALESCE(llama_complete(x, 1), ''a''), llama_filter(x, ''b'') AND id = 1, NOT llama_filter(x, ''c'') FROM words');
SELECT plan('SELECT NULLIF(llama_complete(x, 1), ''a''), GREATEST(x, llama_complete(x, 2)), (llama_embed(x, 1))[1], ARRAY[llama_complete(x, 3)], ROW(llama_complete(x, 4)) FROM words');
-- one row of one column is left to PL/pgSQL, which evaluates it itself
SELECT plan('SELECT llama_filter(''x'', ''a'') AND llama_filter(''y'', ''a'')');
DO $$
DECLARE answer bool := (llama_filter('x', 'a') = llama_filter('y', 'a')) IS NULL;
BEGIN
	RAISE NOTICE '%', answer;
END $$;
-- volatile arguments
SELECT plan('SELECT llama_filter(random()::text, ''a''), llama_filter(llama_complete(x, 1) || random(), ''a'') FROM words');
-- functions that run with settings or not for NULLs are their callers'
ALTER FUNCTION llama_filter(text, text, text) SET work_mem = '1MB';
SELECT plan('SELECT llama_filter(x, ''a'') FROM words');
ALTER FUNCTION llama_filter(text, text, text) RESET ALL;
ALTER FUNCTION llama_filter(text, text, text) STRICT;
SELECT plan('SELECT llama_filter(x, ''a'') FROM words');
ALTER FUNCTION llama_filter(text, text, text) CALLED ON NULL INPUT;
ALTER FUNCTION llama_filter(text, text, text) VOLATILE;
SELECT plan('SELECT llama_filter(x, ''a'') FROM words');
ALTER FUNCTION llama_filter(text, text, text) STABLE;
SELECT plan('SELECT llama_filter(x, ''a'') FROM words');

-- nothing with effects is read ahead: the sequence advances as rows are asked for
CREATE FUNCTION tick(i int) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('ticks'); RETURN NEXT i; END $$;
CREATE FUNCTION ticked(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM setval('ticks', 1, false);
	EXECUTE query;
	RETURN format('%s ticks', nextval('ticks') - 1);
END $$;
SELECT ticked('SELECT llama_filter(v::text, ''a'') FROM (SELECT nextval(''ticks'') v FROM few OFFSET 0) s LIMIT 2');
SELECT ticked('SELECT llama_filter(v::text, ''a'') FROM (SELECT (SELECT nextval(''ticks'') + id) v FROM few OFFSET 0) s LIMIT 2');
SELECT ticked('SELECT llama_filter(v::text, ''a'') FROM (VALUES (nextval(''ticks'')), (nextval(''ticks'')), (nextval(''ticks''))) v (v) LIMIT 2');
SELECT ticked('SELECT llama_filter(t, ''a'') FROM few, tick(id) t LIMIT 2');
SELECT ticked('SELECT c FROM (SELECT t.c, few.x FROM few, XMLTABLE(''/r'' PASSING xmlelement(name r, nextval(''ticks'') + id) COLUMNS c text PATH ''.'') t OFFSET 0) s WHERE llama_filter(c || x, ''a'') IS NOT NULL LIMIT 2');
SELECT plan('SELECT llama_filter(t.c, ''a'') FROM XMLTABLE(''/r'' PASSING xmlelement(name r, nextval(''ticks'')) COLUMNS c text PATH ''.'') t');
SELECT ticked('SELECT llama_filter(few.x || b.x, ''a'') FROM few LEFT JOIN few b ON b.id = few.id AND nextval(''ticks'') > b.id - few.id LIMIT 1');
SELECT ticked('SELECT llama_filter(x, ''a'') FROM few WHERE nextval(''ticks'') > 0 AND llama_filter(x, ''b'') IS NOT NULL LIMIT 2');
SELECT ticked('SELECT llama_filter((SELECT x || nextval(''ticks'') FROM words w WHERE w.id = few.id), ''a'') FROM few LIMIT 2');
SELECT ticked('SELECT id FROM few WHERE llama_filter((SELECT x || nextval(''ticks'') FROM words w WHERE w.id = few.id), ''a'') IS NOT NULL LIMIT 1');
SELECT ticked('SELECT count(llama_filter((SELECT x || nextval(''ticks'') FROM words w WHERE w.id = few.id), ''a'')) OVER (ORDER BY id) FROM few LIMIT 2');
SELECT ticked('SELECT llama_filter(x, ''a''), nextval(''ticks'') FROM few LIMIT 2');
SELECT plan('SELECT llama_filter(x, ''a''), nextval(''ticks'') FROM few LIMIT 2');
SELECT plan('SELECT llama_filter(t, ''a'') FROM tick(1) t');
-- locks neither, unless all rows are read in any case
SELECT plan('SELECT llama_filter(x, ''a'') FROM (SELECT * FROM few FOR UPDATE) s LIMIT 1');
SELECT plan('WITH todo AS (SELECT id FROM words FOR UPDATE SKIP LOCKED LIMIT 2) UPDATE words w SET x = llama_complete(w.x, 1) FROM todo WHERE w.id = todo.id');
-- what has read all of its input before it gives a row has had its effects
SELECT plan('SELECT llama_filter(x, ''a'') FROM words ORDER BY random() LIMIT 3');
SELECT plan('SELECT llama_filter(max(x), ''a'') FROM words GROUP BY ceil(random())');
SELECT ticked('SELECT llama_filter(s.v::text, ''a'') FROM (SELECT nextval(''ticks'') v FROM few ORDER BY 1) s LIMIT 2');
SELECT plan('SELECT llama_filter(s.v::text, ''a'') FROM (SELECT nextval(''ticks'') v FROM few ORDER BY 1) s LIMIT 2');
SELECT ticked('SELECT v FROM (SELECT t.v, f.x FROM few f, LATERAL (SELECT nextval(''ticks'') v FROM words WHERE id = f.id ORDER BY 1 OFFSET 0) t OFFSET 0) s WHERE llama_filter(v || x, ''a'') IS NOT NULL LIMIT 1');
-- and so has what modifies a table, whose order nobody is promised, unless that can be seen in what is volatile
SELECT plan('WITH new AS (INSERT INTO none SELECT * FROM few RETURNING *) SELECT llama_filter(x, ''a'') FROM new');
SELECT plan('WITH old AS (DELETE FROM words USING (SELECT id FROM few ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED) f WHERE f.id = words.id RETURNING words.*) INSERT INTO none SELECT id, g, llama_complete(x, 1) FROM old');
SELECT plan('WITH new AS (INSERT INTO none SELECT * FROM few RETURNING nextval(''ticks'')) SELECT llama_filter(nextval::text, ''a'') FROM new');
SELECT plan('WITH new AS (INSERT INTO none SELECT nextval(''ticks'') FROM few RETURNING *) SELECT llama_filter(x, ''a'') FROM new');
BEGIN;
WITH old AS (DELETE FROM few RETURNING *) INSERT INTO none SELECT id, g, llama_filter(x, 'a')::text FROM old LIMIT 1;
SELECT (SELECT count(*) FROM few) AS few, (SELECT count(*) FROM none) AS none;
ROLLBACK;

-- ------------------------------------------------------- reading ahead
-- where a condition has calls: what the limit wants and three rows more
SELECT n, work(format('SELECT id FROM words WHERE llama_filter(id::text, ''a'') IS NOT NULL LIMIT %s', n)) FROM unnest(ARRAY[0, 1, 2, 3, 4, 10, 40]) n;
SELECT work('SELECT id FROM words WHERE llama_filter(id::text, ''a'') IS NOT NULL LIMIT 4 OFFSET 5');
SELECT work('SELECT id FROM words WHERE llama_filter(id::text, ''a'') IS NOT NULL LIMIT (SELECT max(id) + 2 FROM few)');
SELECT work('SELECT id FROM words WHERE llama_filter(id::text, ''a'') IS NOT NULL LIMIT NULL OFFSET 30');
SET plan_cache_mode = force_generic_plan;
PREPARE p (int, int) AS SELECT id FROM words WHERE llama_filter(id::text, 'a') IS NOT NULL LIMIT $1 OFFSET $2;
SELECT work('EXECUTE p (7, 4)');
DEALLOCATE p;
RESET plan_cache_mode;
-- also in partitions, which together give what is wanted
CREATE FUNCTION works(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT json) ' || query INTO answer;
	RETURN (SELECT string_agg(node->>'Calls Made', ', ')
			  FROM jsonb_path_query(answer::jsonb, 'strict $.** ? (@."Custom Plan Provider" == "Llama Batch")') node);
END $$;
SELECT n, works(format('SELECT id FROM parts WHERE llama_filter(id::text, ''a'') IS NOT NULL LIMIT %s', n)) FROM unnest(ARRAY[1, 4, 6, 10]) n;
-- and by conditions one after the other, where three rows ahead are three, not six
SELECT n, works(format('SELECT id FROM words WHERE llama_filter(id::text, ''a'') IS NOT NULL AND llama_filter(id::text, ''b'') IS NOT NULL AND llama_filter(id::text, ''c'') IS NOT NULL LIMIT %s', n)) FROM unnest(ARRAY[1, 3, 20]) n;
SELECT works('SELECT llama_filter(id || (llama_filter(id::text, ''a'') IS NULL)::text, ''b'') FROM words WHERE llama_filter(id || (llama_filter(id::text, ''c'') IS NULL)::text, ''d'') IS NOT NULL LIMIT 3');
-- rows that do not pass: as many more, fewer when more have passed than are wanted
SELECT n, work(format('SELECT id FROM words WHERE (llama_filter(id::text, ''a'') IS NOT NULL) = (id %% 4 = 0) LIMIT %s', n)) FROM unnest(ARRAY[1, 3, 5]) n;
SELECT work('SELECT id FROM words WHERE (llama_filter(id::text, ''a'') IS NOT NULL) = (id % 2 = 0) LIMIT 10');
SELECT work('SELECT id FROM words WHERE (llama_filter(id::text, ''a'') IS NOT NULL) = (id > 15) LIMIT 2');
SELECT works('SELECT id FROM words WHERE (llama_filter(id::text, ''a'') IS NOT NULL) = (id % 2 = 0) AND (llama_filter(id::text, ''b'') IS NOT NULL) = (id % 4 = 0) LIMIT 2');
-- a row may be many of the limit's, or none
SELECT work('SELECT words.id FROM words, LATERAL generate_series(1, 20 + words.id * 0) WHERE llama_filter(words.id::text, ''a'') IS NOT NULL LIMIT 30');
SELECT work('SELECT * FROM (SELECT id FROM words WHERE llama_filter(id::text, ''a'') IS NOT NULL OFFSET 0) s WHERE id > 10 LIMIT 2');
-- and again from the start when the node is asked again
SELECT work('SELECT (SELECT id FROM words WHERE id > i AND llama_filter(id::text, ''a'') IS NOT NULL LIMIT 1) FROM generate_series(1, 10) i');
-- where none has: the rows of the result
SELECT n, work(format('SELECT llama_filter(id::text, ''a'') FROM words LIMIT %s', n)) FROM unnest(ARRAY[0, 3, 40, 50]) n;
SELECT work('SELECT (SELECT llama_filter(x, ''a'') FROM words WHERE id > i LIMIT 1) FROM generate_series(1, 10) i');
-- equal calls are made once; NULLs are calls too
SELECT work('SELECT llama_filter(g::text, ''a'') FROM words');
SELECT work('SELECT llama_filter(NULL, ''a'') FROM words');
SELECT work('SELECT llama_filter(x, ''a'') FROM none');
-- functions are not confused
SELECT work('SELECT llama_filter(x, ''a''), llama_filter_prob(x, ''a'') FROM few');

-- an error waits for its row
CREATE FUNCTION labels(id int) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN id = 3 THEN ARRAY['p'] ELSE ARRAY['p', 'q'] END $$;
SELECT count(*) FROM (SELECT id FROM words WHERE llama_classify(x, labels(id)) IN ('p', 'q') LIMIT 2) s;
SELECT count(*) FROM (SELECT id FROM words WHERE llama_classify(x, labels(id)) IN ('p', 'q') LIMIT 3) s;
SELECT id FROM few WHERE llama_filter_prob(x, 'a', model => CASE WHEN id = 2 THEN 'nope' END) < 2 LIMIT 1;
SELECT id FROM few WHERE llama_filter_prob(x, 'a', model => CASE WHEN id = 2 THEN 'nope' END) < 2 LIMIT 2;
BEGIN;
DECLARE c CURSOR FOR SELECT id, llama_classify(x, labels(id)) IN ('p', 'q') AS answered FROM words;
FETCH 2 FROM c;
SAVEPOINT s;
FETCH 1 FROM c;
ROLLBACK TO s;
COMMIT;
-- rows that cannot be answered
SET client_min_messages = error;
SET llama3.on_error = 'null';
SELECT compare('SELECT id, llama_filter_prob(repeat(x, CASE id WHEN 2 THEN 50000 ELSE 1 END), ''a'') FROM few');
SELECT count(*), count(p) FROM (SELECT llama_filter_prob(repeat(x, CASE id WHEN 2 THEN 50000 ELSE 1 END), 'a') p FROM few OFFSET 0) s;
RESET llama3.on_error;
RESET client_min_messages;

-- the sort below knows how many rows are wanted, and no more are asked for
CREATE FUNCTION sort_method(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT json) ' || query INTO answer;
	RETURN jsonb_path_query_first(answer::jsonb, 'strict $.**."Sort Method"') #>> '{}';
END $$;
SELECT query, sort_method(query), work(query) FROM unnest(ARRAY[
	'SELECT id, llama_filter(id::text, ''a'') FROM words ORDER BY g, id LIMIT 3',
	'SELECT id, llama_filter(id::text, ''a'') FROM words ORDER BY g, id LIMIT 3 OFFSET 4',
	'SELECT llama_filter(id::text, ''a''), random() FROM words ORDER BY g, id LIMIT 3',
	'SELECT llama_filter(s.id::text, ''a'') FROM (SELECT id, g FROM words ORDER BY g, id LIMIT 3) s',
	'SELECT * FROM (SELECT id, llama_filter(id::text, ''a'') FROM words ORDER BY g, id OFFSET 0) s LIMIT 3',
	'SELECT id, llama_filter(id::text, ''a'') FROM words ORDER BY g FETCH FIRST 2 ROWS WITH TIES']) query;
SELECT compare('SELECT id, llama_filter_prob(x, ''a'') FROM words ORDER BY g DESC, id LIMIT 3 OFFSET 2');
SELECT compare('SELECT llama_filter_prob(x, ''a''), id AS "a name", g FROM words ORDER BY g FETCH FIRST 2 ROWS WITH TIES');
SELECT compare('SELECT llama_filter_prob(llama_complete(x, 1), ''a'') p, x FROM words ORDER BY id LIMIT (SELECT max(id) FROM few) OFFSET 1');
SELECT compare('SELECT f.id, s.* FROM few f, LATERAL (SELECT w.id + f.g, llama_filter_prob(w.x, f.x) FROM words w ORDER BY w.g, w.id LIMIT f.id OFFSET f.g) s');
SELECT llama_filter_prob(x, 'a') < 2 AS "a name", id FROM words ORDER BY id LIMIT 1;

-- requests in flight are given up with their query: by an error, and by its end
DO $$
DECLARE n int := 0;
BEGIN
	FOR i IN 1 .. 3 LOOP
		BEGIN
			n := n + (SELECT count(c) FROM (SELECT llama_classify(x, labels(id)) c FROM words WHERE llama_filter(x, 'a') IS NOT NULL OFFSET 0) s);
		EXCEPTION WHEN invalid_parameter_value THEN
			n := n + 100;
		END;
	END LOOP;
	RAISE NOTICE '%', n;
END $$;
SELECT count(c) FROM (SELECT llama_complete(x, 50) c FROM words LIMIT 1) s;
-- the engine lets go of what was given up within one phase of a step
CREATE FUNCTION left_behind() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		SELECT count(*) INTO n FROM llama_stat_requests WHERE pid = pg_backend_pid();
		EXIT WHEN n = 0;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN n;
END $$;
SELECT left_behind();

-- memory does not grow with the rows
CREATE TABLE long_texts (id int, x text);
ALTER TABLE long_texts ALTER x SET STORAGE EXTERNAL;
INSERT INTO long_texts SELECT i, repeat(' ', 5000) || i % 5 FROM generate_series(1, 600) i;
CREATE FUNCTION used() RETURNS bigint LANGUAGE sql AS 'SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts';
BEGIN;
DECLARE c CURSOR FOR SELECT llama_classify(CASE WHEN x = '' THEN x END, '{p,q}', x) FROM long_texts;
MOVE 300 IN c;
SELECT used() AS before \gset
MOVE 250 IN c;
SELECT used() - :before < 100000 AS bounded;
COMMIT;

-- ------------------------------------------------------------- cursors
BEGIN;
DECLARE c CURSOR FOR SELECT id, llama_filter(x, 'a') IS NULL AS isnull FROM words;
FETCH 2 FROM c;
MOVE 3 IN c;
FETCH 2 FROM c;
ROLLBACK;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, llama_filter(x, 'a') IS NULL AS isnull FROM words;
MOVE 3 IN c;
FETCH PRIOR FROM c;
DECLARE h CURSOR WITH HOLD FOR SELECT id, llama_filter(x, 'a') IS NULL AS isnull FROM words WHERE id < 5;
FETCH 1 FROM h;
COMMIT;
FETCH 2 FROM h;
CLOSE h;
BEGIN;
DECLARE c CURSOR FOR SELECT id, llama_filter(x, 'a') IS NULL AS isnull FROM words ORDER BY g, id LIMIT 3 OFFSET 1;
FETCH 2 FROM c;
FETCH 2 FROM c;
COMMIT;
BEGIN;
DECLARE c CURSOR FOR SELECT id, llama_filter(x, 'a') IS NULL AS isnull FROM few FOR UPDATE;
MOVE 2 IN c;
UPDATE few SET x = 'changed' WHERE CURRENT OF c RETURNING id, llama_filter(x, 'a') IS NULL AS isnull;
FETCH 1 FROM c;
ROLLBACK;
-- prepared, with a plan for any argument
SET plan_cache_mode = force_generic_plan;
PREPARE p (text, int) AS SELECT id, llama_filter_prob(x, $1) = llama_filter_prob(x, 'a') AS equal FROM words WHERE id <= $2;
SELECT plan('EXECUTE p (''a'', 2)');
EXECUTE p ('a', 2);
DEALLOCATE p;
RESET plan_cache_mode;
DO $$
DECLARE r record; n int := 0;
BEGIN
	FOR r IN SELECT id, llama_filter_prob(x, 'a') AS p FROM words LOOP
		n := n + CASE WHEN r.p = llama_filter_prob((SELECT x FROM words w WHERE w.id = r.id), 'a') THEN 1 ELSE 0 END;
	END LOOP;
	RAISE NOTICE '%', n;
END $$;

-- -------------------------------------------------- the same results
SELECT compare('SELECT id, llama_filter_prob(x, ''a''), llama_embed(x, 2) FROM words WHERE llama_filter_prob(x, ''b'') IS NOT NULL');
SELECT compare('SELECT id, unnest(llama_classify_multi(x, ''{p,q,r}'', threshold => 0.3)), generate_series(1, (10 * llama_filter_prob(x, ''a''))::int), llama_filter_prob(x, ''b'') FROM words');
SELECT compare('SELECT words, ctid, tableoid, llama_filter_prob(x, ''a'') FROM words');
SELECT compare('SELECT s, llama_filter_prob(s.x, ''a'') FROM (SELECT x, g FROM words OFFSET 1) s');
SELECT compare('SELECT a.id, llama_similarity(a.x, b.x) FROM words a LEFT JOIN few b ON a.g = b.g AND a.id < 9 ORDER BY a.id, b.id');
SELECT compare('SELECT a.id FROM words a WHERE EXISTS (SELECT 1 FROM few b WHERE llama_similarity(a.x, b.x) > 0.9) ORDER BY 1');
SELECT compare('SELECT a.id FROM few a WHERE NOT EXISTS (SELECT 1 FROM words b WHERE b.id > a.id AND llama_similarity(a.x, b.x) > 0.99) ORDER BY 1');
SELECT compare('SELECT w.id, s.* FROM few w, LATERAL (SELECT llama_filter_prob(w.x, f.x), f.id FROM few f WHERE f.id <= w.id ORDER BY f.id LIMIT 2) s ORDER BY 1, 3');
SELECT compare('SELECT * FROM (SELECT llama_filter_prob(x, g::text), rank() OVER (ORDER BY g) n, id FROM words) s WHERE n <= 3 ORDER BY id');
SELECT compare('SELECT * FROM (SELECT id, lag(id) OVER w, llama_filter_prob(lag(x) OVER w, ''a'') FROM words WINDOW w AS (ORDER BY id)) s');
SELECT compare('SELECT id, sum(llama_filter_prob(x, ''a'')) OVER w, max(llama_complete(x, 1)) OVER (PARTITION BY g), lag(llama_filter_prob(x, ''a'')) OVER w, llama_filter_prob(max(x) OVER w, ''b''), avg(llama_filter_prob(x, ''a'')) FILTER (WHERE id > 3) OVER w, count(*) OVER (ORDER BY llama_filter_prob(x, ''a'')) FROM words WINDOW w AS (PARTITION BY g ORDER BY id)');
SELECT compare('SELECT * FROM (SELECT id, count(*) OVER w n, max(llama_filter_prob(x, ''a'')) OVER w FROM words WINDOW w AS (ORDER BY id)) s WHERE n <= 3');
SELECT compare('SELECT g, grouping(g), llama_filter_prob(string_agg(x, '' '' ORDER BY id), ''a'') FROM words GROUP BY ROLLUP (g) HAVING llama_filter_prob(max(x), ''b'') < 2 ORDER BY g');
SELECT compare('SELECT g, x, avg(llama_filter_prob(x, ''a'')), count(DISTINCT llama_complete(x, 1)), max(llama_filter_prob(x, ''b'')) FILTER (WHERE id > 9), llama_filter_prob(string_agg(llama_complete(x, 1), '''' ORDER BY id), ''c'') FROM words GROUP BY CUBE (g, x) ORDER BY g, x');
SELECT compare('WITH RECURSIVE r(i, s) AS (SELECT 1, ''a'' UNION ALL SELECT i + 1, llama_complete(s || i, 2) FROM r WHERE i < 5) SELECT * FROM r');
SELECT compare('SELECT id, llama_filter_prob(x, ''a'') FROM parts WHERE llama_filter_prob(x, ''b'') < 2 ORDER BY id');
SELECT compare('SELECT llama_embed(llama_complete(llama_complete(x, 2), 2), 1), llama_complete(x, 2) FROM words');
SELECT compare('SELECT id, llama_filter_prob((SELECT llama_complete(max(x), 1) FROM few WHERE few.id <= words.id), x) FROM words');
SELECT compare('SELECT id, (SELECT max(llama_filter_prob(x, (SELECT min(x) FROM few c WHERE c.id < b.id AND c.id <= a.id))) FROM few b WHERE b.id <= a.id) FROM words a');
SELECT compare('SELECT id, llama_filter_prob(x, CASE WHEN id IN (SELECT g + 3 FROM few) THEN ''a'' ELSE ''b'' END) FROM words');
-- a merge join sets marks in its inner input
SET enable_hashjoin = off;
SET enable_nestloop = off;
SET enable_sort = off;
SET enable_material = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
CREATE INDEX ON words (g);
SELECT compare('SELECT a.id, b.id FROM words a JOIN words b ON a.g = b.g AND llama_filter_prob(a.x, b.id::text) < 2 ORDER BY 1, 2');
SELECT compare('SELECT a.id, b.id FROM words a JOIN words b ON a.g = b.g WHERE llama_filter_prob(b.x, ''a'') < 2 AND llama_filter_prob(a.x, ''a'') < 2 ORDER BY 1, 2');
-- also below a condition that is checked once
SET plan_cache_mode = force_generic_plan;
PREPARE p (int) AS SELECT count(*), sum(a.id * b.id) FROM (SELECT * FROM words WHERE $1 > 0 AND llama_filter_prob(x, 'a') < 2) a
	FULL JOIN (SELECT * FROM words WHERE $1 > 0 AND llama_filter_prob(x, 'b') < 2) b ON a.g = b.g;
SELECT plan('EXECUTE p (1)');
EXECUTE p (1);
DEALLOCATE p;
SELECT count(*), sum(a.id * b.id) FROM words a JOIN words b ON a.g = b.g WHERE a.x IS NOT NULL AND b.x IS NOT NULL;
RESET plan_cache_mode;
RESET enable_hashjoin;
RESET enable_nestloop;
RESET enable_sort;
RESET enable_material;
RESET enable_seqscan;
RESET enable_bitmapscan;
-- writing
CREATE TABLE target (id int PRIMARY KEY, x text, n int GENERATED ALWAYS AS (length(x)) STORED, p float8);
INSERT INTO target (id, x, p) SELECT id, x, llama_filter_prob(x, 'a') FROM words WHERE id < 6
	ON CONFLICT (id) DO NOTHING RETURNING id, n, p = llama_filter_prob(x, 'a') AS right;
INSERT INTO target (id, x, p) SELECT id, 'new', llama_filter_prob(x, 'b') FROM words WHERE id < 3
	ON CONFLICT (id) DO UPDATE SET p = EXCLUDED.p RETURNING id, x, p = llama_filter_prob(x, 'b') AS right;
UPDATE target SET p = llama_filter_prob(x, 'c'), x = x || '!' WHERE llama_filter_prob(x, 'd') < 2;
SELECT t.id, t.x, t.p = llama_filter_prob(w.x, 'c') AS right FROM target t JOIN words w USING (id) ORDER BY 1;
MERGE INTO target t USING (SELECT id, x, llama_filter_prob(x, 'e') p FROM words WHERE id < 8) w ON t.id = w.id
	WHEN MATCHED AND w.id < 3 THEN DELETE WHEN MATCHED THEN UPDATE SET p = w.p WHEN NOT MATCHED THEN INSERT (id, x, p) VALUES (w.id, w.x, w.p);
SELECT t.id, t.p = llama_filter_prob(w.x, 'e') AS right FROM target t JOIN words w USING (id) ORDER BY 1;
DELETE FROM target t USING words w WHERE t.id = w.id AND llama_filter_prob(w.x, t.id::text) < 2 RETURNING t.id;

-- row security: a leaky condition sees only rows that passed the policy
CREATE ROLE regress_llama3_reader;
GRANT SELECT ON words TO regress_llama3_reader;
ALTER TABLE words ENABLE ROW LEVEL SECURITY;
CREATE POLICY low ON words USING (id < 3 AND llama_filter_prob(x, 'policy') < 2);
CREATE FUNCTION leak(text) RETURNS bool LANGUAGE plpgsql STABLE COST 0.001 AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;
SET ROLE regress_llama3_reader;
SELECT id, llama_filter_prob(x, 'a') < 2 AS answered FROM words WHERE llama_filter_prob(x, 'b') < 2 AND leak(x);
SELECT w.id, i FROM words w JOIN generate_series(2, 5) i ON w.id = i AND llama_filter_prob(w.x, i::text) < 2 WHERE leak(w.x) AND llama_filter_prob(w.x, 'b') < 2;
RESET ROLE;
CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM words WHERE llama_filter_prob(x, 'view') < 2 AND id > 39;
SELECT id, llama_filter_prob(x, 'a') < 2 AS answered FROM barrier WHERE leak(x) AND llama_filter_prob(x, 'b') < 2;
SELECT b.id, i FROM barrier b JOIN generate_series(38, 41) i ON b.id = i AND llama_filter_prob(b.x, i::text) < 2 WHERE leak(b.x);
DROP VIEW barrier;
-- who may not call a function may not by a batch
REVOKE EXECUTE ON FUNCTION llama_filter_prob(text, text, text) FROM public;
SET ROLE regress_llama3_reader;
SELECT llama_filter_prob(id::text, 'a') FROM words;
RESET ROLE;
GRANT EXECUTE ON FUNCTION llama_filter_prob(text, text, text) TO public;
DROP POLICY low ON words;
ALTER TABLE words DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON words FROM regress_llama3_reader;
DROP ROLE regress_llama3_reader;

-- functions are known wherever the extension is, also when it was made again
CREATE SCHEMA elsewhere;
DROP EXTENSION llama3;
CREATE EXTENSION llama3 SCHEMA elsewhere;
SELECT plan('SELECT elsewhere.llama_filter(x, ''a'') FROM few');
DROP EXTENSION llama3;
CREATE EXTENSION llama3;
PREPARE p AS SELECT id, llama_filter(x, 'a') IS NULL AS isnull FROM few;
EXECUTE p;
DROP EXTENSION llama3;
EXECUTE p;
CREATE EXTENSION llama3;
EXECUTE p;
SELECT plan('EXECUTE p');
DEALLOCATE p;
