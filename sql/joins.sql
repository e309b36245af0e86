-- Batching and joins: conditions that are checked after a join, and calls in its keys.
CREATE SCHEMA joins;
SET search_path = joins, public;
CREATE TABLE a (id int, k int, x text);
INSERT INTO a SELECT i, i % 4, CASE WHEN i % 5 <> 0 THEN 'text ' || i % 8 END FROM generate_series(1, 24) i;
CREATE TABLE b (id int, k int, x text);
INSERT INTO b SELECT i, i % 3, CASE WHEN i % 6 <> 0 THEN (ARRAY['p', 'q', 'r'])[1 + i % 3] END FROM generate_series(1, 18) i;
CREATE INDEX ON b (x);
CREATE TABLE u (id int PRIMARY KEY, x text);
INSERT INTO u SELECT i, CASE WHEN i <> 2 THEN 'unique ' || i END FROM generate_series(1, 3) i;
CREATE TABLE none (LIKE a);
CREATE SEQUENCE ticks;
ANALYZE;
SET max_parallel_workers_per_gather = 0;

-- a plan, without the arguments that were not given
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
		RETURN NEXT regexp_replace(line, '(, (NULL::[a-z ]+(\[\])?|false))+\)', ')', 'g');
	END LOOP;
END $$;

-- all rows with batching and without
CREATE FUNCTION same(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE batched text[]; plain text[]; nodes int;
BEGIN
	EXECUTE format('SELECT array_agg(q::text ORDER BY q::text) FROM (%s) q', query) INTO batched;
	SELECT count(*) INTO nodes FROM plan(query) line WHERE line ~ 'Llama Batch';
	SET LOCAL llama3.enable_batching = off;
	EXECUTE format('SELECT array_agg(q::text ORDER BY q::text) FROM (%s) q', query) INTO plain;
	SET LOCAL llama3.enable_batching = on;
	RETURN format('%s nodes, %s, %s', nodes, CASE WHEN plain IS NULL THEN 'no rows' ELSE 'rows' END,
		CASE WHEN batched IS NOT DISTINCT FROM plain THEN 'same' ELSE 'different' END);
END $$;

-- how many calls all batch nodes of a query made
CREATE FUNCTION made(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer json; n bigint;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT json) ' || query INTO answer;
	SELECT sum(v::int) INTO n FROM jsonb_path_query(answer::jsonb, 'strict $.** ? (@."Custom Plan Provider" == "Llama Batch")."Calls Made"') v;
	RETURN format('%s made', n);
END $$;

-- ------------------------------------------- at most one inner row is found
-- that a join stops there only saves time: its conditions go above it all the same
SELECT plan('SELECT a.id, u.id FROM a JOIN u ON a.k = u.id AND llama_filter(a.x, u.x)');
SELECT same('SELECT a.id, u.id FROM a JOIN u ON a.k = u.id AND llama_filter_prob(a.x, u.x) < 2');
-- one condition after the other, and a key among them, which may come last
SELECT plan('SELECT a.id, u.id FROM a JOIN u ON a.k = u.id AND llama_filter(a.x, u.x) AND llama_classify(a.x || u.x, ''{p,q}'') = ''p''');
SELECT same('SELECT a.id, u.id FROM a JOIN u ON a.k = u.id AND llama_filter_prob(a.x, u.x) < 2 AND llama_classify(a.x || u.x, ''{p,q}'') <> ''r''');
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT plan('SELECT a.id, u.id FROM a JOIN u ON a.k = u.id AND llama_filter(a.x, u.x)');
SELECT same('SELECT a.id, u.id FROM a JOIN u ON a.k = u.id AND llama_filter_prob(a.x, u.x) < 2');
-- also where it is by the call that the row is found
SELECT plan('SELECT a.id, u.id FROM a JOIN u ON u.id = ascii(llama_classify(a.x, ''{p,q,r}'')) - 111');
SELECT same('SELECT a.id, u.id FROM a JOIN u ON u.id = ascii(llama_classify(a.x, ''{p,q,r}'')) - 111');
-- where one row is found by what is checked after the calls, more would be asked: not batched
CREATE FUNCTION dear(int) RETURNS int LANGUAGE plpgsql IMMUTABLE COST 1e9 AS $$ BEGIN RETURN $1; END $$;
SELECT plan('SELECT a.id, u.id FROM a JOIN u ON dear(a.k) = u.id AND llama_filter(a.x, u.x)');
SELECT same('SELECT a.id, u.id FROM a JOIN u ON dear(a.k) = u.id AND llama_filter_prob(a.x, u.x) < 2');
SET enable_nestloop = off;
SET enable_mergejoin = on;
SELECT plan('SELECT a.id, u.id FROM a JOIN u ON a.k = u.id AND llama_filter(a.x, u.x)');
SELECT same('SELECT a.id, u.id FROM a JOIN u ON a.k = u.id AND llama_filter_prob(a.x, u.x) < 2');
RESET enable_nestloop;
RESET enable_hashjoin;
RESET enable_indexscan;
RESET enable_bitmapscan;

-- --------------------------------------------------------------- join keys
-- below a hash join, on either side or both, and no more in the select list
SET enable_mergejoin = off;
SET enable_nestloop = off;
SELECT plan('SELECT a.id, b.id, llama_classify(a.x, ''{p,q,r}'') FROM a JOIN b ON llama_classify(a.x, ''{p,q,r}'') = b.x');
SELECT plan('SELECT llama_complete(b.x, 1) FROM a LEFT JOIN b ON llama_classify(a.x, ''{p,q,r}'') = llama_complete(b.x, 1) AND a.k < b.id');
SELECT plan('SELECT 1 FROM b JOIN a ON b.x = llama_complete(llama_classify(a.x, ''{p,q,r}''), 1)');
-- each row's call once: twenty texts and NULL; fifteen and NULL
SELECT made('SELECT a.id, b.id, llama_classify(a.x || a.id, ''{p,q,r}'') FROM a JOIN b ON llama_classify(a.x || a.id, ''{p,q,r}'') = b.x');
SELECT made('SELECT a.id, b.id FROM a JOIN b ON llama_classify(a.x || a.id, ''{p,q,r}'') = llama_classify(b.x || b.id, ''{p,q,r}'')');
-- in every kind of join
SELECT kind, same(format('SELECT a.id, b.id, llama_classify(a.x, ''{p,q,r}''), llama_classify(concat(b.x, ''!''), ''{p,q,r}'') FROM a %s b ON llama_classify(a.x, ''{p,q,r}'') = llama_classify(concat(b.x, ''!''), ''{p,q,r}'')', kind))
	FROM unnest(ARRAY['JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN']) kind;
SELECT kind, same(format('SELECT a.id FROM a WHERE %s EXISTS (SELECT 1 FROM b WHERE llama_classify(a.x, ''{p,q,r}'') = llama_complete(b.x, 1))', kind))
	FROM unnest(ARRAY['', 'NOT']) kind;
SELECT plan('SELECT a.id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE llama_classify(a.x, ''{p,q,r}'') = llama_complete(b.x, 1))');
-- without rows on one side, and in another order of the tables
SELECT same('SELECT a.id, n.id FROM a JOIN none n ON llama_classify(a.x, ''{p,q,r}'') = n.x');
SELECT same('SELECT a.id, n.id FROM a LEFT JOIN none n ON llama_classify(a.x, ''{p,q,r}'') = llama_complete(n.x, 1)');
SELECT same('SELECT a.id, n.id FROM none n RIGHT JOIN a ON llama_classify(a.x, ''{p,q,r}'') = llama_complete(n.x, 1)');
-- in several batches of the hash table
CREATE TABLE wide AS SELECT i AS id, 'w ' || i % 40 AS x, repeat('-', 500) AS fill FROM generate_series(1, 600) i;
ANALYZE wide;
SET work_mem = '64kB';
SELECT same('SELECT v.id, w.id, length(v.fill), length(w.fill) FROM wide v FULL JOIN wide w ON llama_complete(v.x, 1) = llama_complete(w.x || ''!'', 1) AND v.id = w.id');
RESET work_mem;
-- again for each row of another
SELECT same('SELECT u.id, s.* FROM u, LATERAL (SELECT a.id, b.id AS bid FROM a JOIN b ON llama_classify(a.x || u.id, ''{p,q,r}'') = llama_classify(b.x || u.x, ''{p,q,r}'') OFFSET 0) s');
-- in parallel, also with one hash table for all processes
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT plan('SELECT v.id, w.id FROM wide v JOIN wide w ON llama_complete(v.x, 1) = llama_complete(w.x, 1) AND v.id = w.id');
SELECT same('SELECT v.id, w.id, length(w.fill) FROM wide v JOIN wide w ON llama_complete(v.x, 1) = llama_complete(w.x, 1) AND v.id = w.id');
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
SET max_parallel_workers_per_gather = 0;
-- a merge join sorts by the key, which is a column of what is sorted
SET enable_hashjoin = off;
SET enable_mergejoin = on;
SELECT plan('SELECT a.id, b.id FROM a JOIN b ON llama_classify(a.x, ''{p,q,r}'') = llama_complete(b.x, 1)');
SELECT same('SELECT a.id, b.id FROM a FULL JOIN b ON llama_classify(a.x, ''{p,q,r}'') = llama_complete(b.x, 1)');
-- or reads an index on it, in which the key itself is not; its inner input must be as it is
CREATE TABLE pinned AS SELECT id, x FROM a;
SELECT llama_pin() AS pin \gset
DO $$ BEGIN EXECUTE format('CREATE INDEX ON pinned (llama_classify_pinned(x, ''{p,q,r}'', %L))', llama_pin()); END $$;
ANALYZE pinned;
SET enable_sort = off;
SET enable_seqscan = off;
SELECT regexp_replace(line, '[a-z]+@[0-9a-f]+', 'pin', 'g') AS plan FROM plan(format('SELECT p.id, q.id FROM pinned p JOIN pinned q ON llama_classify_pinned(p.x, ''{p,q,r}'', %1$L) = llama_classify_pinned(q.x, ''{p,q,r}'', %1$L)', :'pin')) line;
SELECT same(format('SELECT p.id, q.id FROM pinned p JOIN pinned q ON llama_classify_pinned(p.x, ''{p,q,r}'', %1$L) = llama_classify_pinned(q.x, ''{p,q,r}'', %1$L)', :'pin'));
RESET enable_sort;
RESET enable_seqscan;
RESET enable_hashjoin;
-- nothing with effects is read ahead
SET enable_mergejoin = off;
SELECT plan('SELECT 1 FROM (SELECT x, nextval(''ticks'') FROM a OFFSET 0) s JOIN b ON llama_classify(s.x, ''{p,q,r}'') = b.x');

-- -------------------------------------------------- what an index is asked for
RESET enable_nestloop;
SET enable_hashjoin = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT plan('SELECT a.id, b.id, llama_classify(a.x, ''{p,q,r}'') FROM a LEFT JOIN b ON llama_classify(a.x, ''{p,q,r}'') = b.x');
SELECT same('SELECT a.id, b.id, llama_classify(a.x, ''{p,q,r}'') FROM a LEFT JOIN b ON llama_classify(a.x, ''{p,q,r}'') = b.x');
SELECT made('SELECT a.id, b.id, llama_classify(a.x || a.id, ''{p,q,r}'') FROM a LEFT JOIN b ON llama_classify(a.x || a.id, ''{p,q,r}'') = b.x');
SET enable_memoize = off;
SELECT plan('SELECT a.id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.x = llama_classify(llama_complete(a.x, 1), ''{p,q,r}'') AND llama_filter(b.x, a.x))');
SELECT same('SELECT a.id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.x = llama_classify(llama_complete(a.x, 1), ''{p,q,r}'') AND llama_filter_prob(b.x, a.x) < 2)');
SELECT same('SELECT a.id, v.id, w.id FROM a JOIN b v ON v.x = llama_classify(a.x, ''{p,q,r}'') JOIN b w ON w.x = llama_classify(concat(a.x, v.id), ''{p,q,r}'')');
SELECT same('SELECT u.id, s.* FROM u, LATERAL (SELECT a.id, b.id AS bid FROM a JOIN b ON b.x = llama_classify(a.x || u.id, ''{p,q,r}'') WHERE a.k = u.id OFFSET 0) s');
SET enable_indexscan = off;
SET enable_bitmapscan = on;
SELECT plan('SELECT a.id, b.id FROM a LEFT JOIN b ON llama_classify(a.x, ''{p,q,r}'') = b.x');
SELECT same('SELECT a.id, b.id FROM a LEFT JOIN b ON llama_classify(a.x, ''{p,q,r}'') = b.x');
SET enable_bitmapscan = off;
SET enable_indexscan = on;
SET enable_indexonlyscan = on;
VACUUM b;
SELECT plan('SELECT a.id, b.x FROM a JOIN b ON b.x > llama_classify(a.x, ''{p,q,r}'')');
SELECT same('SELECT a.id, b.x FROM a JOIN b ON b.x > llama_classify(a.x, ''{p,q,r}'')');
-- nothing with effects is read ahead
SELECT plan('SELECT 1 FROM (SELECT x, nextval(''ticks'') FROM a OFFSET 0) s LEFT JOIN b ON llama_classify(s.x, ''{p,q,r}'') = b.x');

SET client_min_messages = warning;
DROP SCHEMA joins CASCADE;
