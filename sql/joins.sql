-- Batching and joins: conditions that are checked after a join, calls in its keys, and
-- conditions of outer joins.
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

-- rows as they come, with batching and without
CREATE FUNCTION same_order(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE batched text[]; plain text[]; nodes int;
BEGIN
	EXECUTE format('SELECT array_agg(q::text) FROM (%s) q', query) INTO batched;
	SELECT count(*) INTO nodes FROM plan(query) line WHERE line ~ 'Llama Outer Join';
	SET LOCAL llama3.enable_batching = off;
	EXECUTE format('SELECT array_agg(q::text) FROM (%s) q', query) INTO plain;
	SET LOCAL llama3.enable_batching = on;
	RETURN format('%s outer joins, %s, %s', nodes, CASE WHEN plain IS NULL THEN 'no rows' ELSE 'rows' END,
		CASE WHEN batched IS NOT DISTINCT FROM plain THEN 'same' ELSE 'different' END);
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

-- how often a Memoize node had what was asked for
CREATE FUNCTION hits(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE answer json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, FORMAT json) ' || query INTO answer;
	RETURN jsonb_path_query_first(answer::jsonb, 'strict $.**."Cache Hits"');
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
SELECT plan('SELECT a.id, u.id FROM a JOIN u ON u.id = a.k * (llama_filter_prob(a.x, ''c'') < 2)::int');
SELECT same('SELECT a.id, u.id FROM a JOIN u ON u.id = a.k * (llama_filter_prob(a.x, ''c'') < 2)::int');
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
-- a key behind one that is NULL is not looked at, where such rows are not kept
SELECT plan('SELECT a.id, b.id FROM a JOIN b ON a.x = b.x AND llama_classify(a.x, ''{p,q}'') = llama_classify(b.x, ''{p,q}'')');
SELECT plan('SELECT a.id, b.id FROM a JOIN b ON lower(a.x) = b.x AND llama_classify(a.x, ''{p,q}'') = llama_classify(b.x, ''{p,q}'')');
SELECT kind, same(format('SELECT v.id, w.id FROM (SELECT id, x, coalesce(x, ''?'') y FROM a) v %s (SELECT id, x, coalesce(x, ''?'') y FROM b) w ON chr(112 + length(v.x) %% 3) = w.x AND llama_classify(v.y, ''{p,q,r}'') = llama_classify(w.y, ''{p,q,r}'')', kind))
	FROM unnest(ARRAY['JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN']) kind;
SELECT kind, same(format('SELECT v.id, w.id FROM (SELECT id, chr(112 + length(x) %% 3) x, coalesce(x, ''?'') y FROM a OFFSET 0) v %s (SELECT id, x, coalesce(x, ''?'') y FROM b) w ON v.x = w.x AND llama_classify(v.y, ''{p,q,r}'') = llama_classify(w.y, ''{p,q,r}'')', kind))
	FROM unnest(ARRAY['JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN']) kind;
SELECT kind, same(format('SELECT v.id FROM (SELECT id, chr(112 + length(x) %% 3) x, coalesce(x, ''?'') y FROM a OFFSET 0) v WHERE %s EXISTS (SELECT 1 FROM b w WHERE v.x = w.x AND llama_classify(v.y, ''{p,q,r}'') = llama_classify(w.x, ''{p,q,r}''))', kind))
	FROM unnest(ARRAY['', 'NOT']) kind;
CREATE FUNCTION labels(x text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN x IS NULL THEN ARRAY['p'] ELSE ARRAY['p', 'q', 'r'] END $$;
SELECT count(*) > 0 AS joined FROM (SELECT *, x || '' AS y FROM a OFFSET 0) a JOIN (SELECT *, 'text ' || (k + length(x)) AS y FROM b OFFSET 0) b ON a.y = b.y AND llama_classify('text', labels(a.x)) = llama_classify('text', labels(b.x));
-- in every kind of join
SELECT kind, same(format('SELECT a.id, b.id, llama_classify(a.x, ''{p,q,r}''), llama_classify(concat(b.x, ''!''), ''{p,q,r}'') FROM a %s b ON llama_classify(a.x, ''{p,q,r}'') = llama_classify(concat(b.x, ''!''), ''{p,q,r}'')', kind))
	FROM unnest(ARRAY['JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN']) kind;
SELECT kind, same(format('SELECT a.id FROM a WHERE %s EXISTS (SELECT 1 FROM b WHERE llama_classify(a.x, ''{p,q,r}'') = llama_complete(b.x, 1))', kind))
	FROM unnest(ARRAY['', 'NOT']) kind;
SELECT plan('SELECT a.id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE llama_classify(a.x, ''{p,q,r}'') = llama_complete(b.x, 1))');
-- a subquery in the arguments is left to the node that it was planned for
SELECT plan('SELECT 1 FROM a JOIN b ON llama_classify(a.x || (SELECT max(u.id) FROM u WHERE u.id < a.k), ''{p,q,r}'') = b.x');
SELECT same('SELECT a.id, b.id FROM a JOIN b ON llama_classify(a.x || (SELECT max(u.id) FROM u WHERE u.id < a.k), ''{p,q,r}'') = b.x');
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
SELECT hits('SELECT a.id, b.id FROM a LEFT JOIN b ON llama_classify(a.x, ''{p,q,r}'') = b.x') >= 20 AS remembers;
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

-- ----------------------------------------------- conditions of outer joins
RESET enable_nestloop;
RESET enable_seqscan;
RESET enable_bitmapscan;
RESET enable_indexonlyscan;
RESET enable_memoize;
RESET enable_hashjoin;
RESET enable_mergejoin;
-- one after the other, each for pairs that passed those before, and what is after the join after them
SELECT plan('SELECT a.id, b.id, llama_filter(b.x, ''c'') FROM a LEFT JOIN b ON a.k = b.k AND llama_filter(a.x, b.x) AND a.id > b.id AND llama_filter(llama_complete(b.x, 1), a.x) WHERE b.id IS NULL OR a.id + b.id > 3');
SELECT plan('SELECT a.id, b.id FROM a FULL JOIN b ON a.k = b.k AND llama_filter(a.x, b.x) AND (a.id + b.id) % 3 <> 1 WHERE llama_filter(concat(a.x, b.x), ''c'')');
SELECT same('SELECT a.id, b.id, llama_filter_prob(b.x, ''c'') FROM a LEFT JOIN b ON a.k = b.k AND llama_filter_prob(a.x, b.x) < 2 AND a.id > b.id AND llama_filter_prob(llama_complete(b.x, 1), a.x) IS NOT NULL WHERE b.id IS NULL OR a.id + b.id > 3');
SELECT same('SELECT a.id, b.id FROM a FULL JOIN b ON a.k = b.k AND llama_filter_prob(a.x, b.x) < 2 AND (a.id + b.id) % 3 <> 1 WHERE llama_filter_prob(concat(a.x, b.x), ''c'') < 2');
-- every kind of join, made in every way; pairs that pass all, none, and some of a row's
CREATE FUNCTION in_all_ways(query text) RETURNS TABLE (way text, type text, passes text, result text) LANGUAGE plpgsql AS $$
BEGIN
	FOREACH way IN ARRAY ARRAY['hashjoin', 'mergejoin', 'nestloop'] LOOP
		PERFORM set_config('enable_' || w, (w = way)::text, true) FROM unnest(ARRAY['hashjoin', 'mergejoin', 'nestloop']) w;
		FOREACH type IN ARRAY ARRAY['LEFT', 'RIGHT', 'FULL'] LOOP
			FOREACH passes IN ARRAY ARRAY['< 2', '> 2', 'IS NULL', '< 2 AND (a.id + b.id) % 3 = 1', '< 2 AND a.id % 2 = 0', '< 2 AND b.id % 2 = 0'] LOOP
				result := same(format(query, type, passes));
				RETURN NEXT;
			END LOOP;
		END LOOP;
	END LOOP;
END $$;
SELECT type, passes, result, string_agg(way, ', ' ORDER BY way) AS ways FROM in_all_ways('SELECT a.id, a.x, b.id, b.x FROM (SELECT * FROM a WHERE id <= 9) a %s JOIN (SELECT * FROM b WHERE id <= 9) b ON a.k = b.k AND llama_filter_prob(concat(a.x, b.id %% 7), b.x) %s')
	GROUP BY type, passes, result ORDER BY type, passes;
-- with rows that occur twice, and rows of NULLs that have partners
SELECT result, count(*) FROM in_all_ways('SELECT a.*, b FROM (SELECT * FROM a WHERE id <= 5 UNION ALL SELECT * FROM a WHERE id IN (1, 2, 5) UNION ALL SELECT NULL, k, NULL FROM a WHERE id <= 4) a %s JOIN (SELECT * FROM b WHERE id <= 5 UNION ALL SELECT NULL, k, NULL FROM b WHERE id <= 5) b ON a.k = b.k AND llama_filter_prob(concat(a.x, ''!''), concat(b.x, ''?'')) %s') GROUP BY 1;
-- without rows on one side
SELECT result, count(*) FROM in_all_ways('SELECT a.id, b.id FROM a %s JOIN none b ON a.k = b.k AND llama_filter_prob(concat(a.x, ''!''), b.x) %s') GROUP BY 1 ORDER BY 1;
SELECT result, count(*) FROM in_all_ways('SELECT a.id, b.id FROM none a %s JOIN b ON a.k = b.k AND llama_filter_prob(concat(a.x, ''!''), b.x) %s') GROUP BY 1 ORDER BY 1;
-- where each row finds one at most
SELECT plan('SELECT a.id, u.id FROM a LEFT JOIN u ON a.k = u.id AND llama_filter(a.x, u.x)');
SELECT same('SELECT a.id, u.id FROM a LEFT JOIN u ON a.k = u.id AND llama_filter_prob(concat(a.x, ''!''), u.x) IS NOT NULL');
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT same('SELECT a.id, u.id FROM a LEFT JOIN u ON u.id = a.k * (llama_filter_prob(a.x, ''c'') < 2)::int');
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_indexscan;
RESET enable_bitmapscan;
-- pairs are asked about, each once, and rows without a partner are not
SELECT made('SELECT a.id, b.id FROM a LEFT JOIN b ON a.id = b.id + 8 AND llama_filter_prob(concat(a.x, a.id), concat(b.x, b.id)) < 2');
SELECT made('SELECT a.id, b.id FROM a FULL JOIN b ON a.id = b.id + 8 AND llama_filter_prob(concat(a.x, a.id), concat(b.x, b.id)) < 2');
SELECT made('SELECT a.id, n.id FROM a LEFT JOIN none n ON a.id = n.id AND llama_filter_prob(concat(a.x, a.id), concat(n.x, ''?'')) < 2');
-- a condition on the outer side alone is asked once for each outer row that has a partner
SET enable_mergejoin = off;
SET enable_nestloop = off;
SELECT made('SELECT v.id, b.id FROM (SELECT * FROM a WHERE id <= 12) v LEFT JOIN b ON v.k = b.k AND llama_filter(concat(v.x, v.id), ''c'')');
RESET enable_mergejoin;
RESET enable_nestloop;
-- the order of rows is as it was
SET enable_hashjoin = off;
SET enable_nestloop = off;
SELECT plan('SELECT a.k, a.id, b.id FROM a LEFT JOIN b ON a.k = b.k AND llama_filter(a.x, b.x) ORDER BY a.k');
SELECT same_order('SELECT a.k, a.id, b.id FROM a LEFT JOIN b ON a.k = b.k AND llama_filter_prob(concat(a.x, b.id), ''c'') < 2 AND (a.id + b.id) % 3 = 1 ORDER BY a.k');
SELECT same_order('SELECT a.k, a.id, b.id, c.id FROM a LEFT JOIN b ON a.k = b.k AND llama_filter_prob(concat(a.x, b.id), ''c'') < 2 AND (a.id + b.id) % 3 = 1 LEFT JOIN b c ON a.k = c.k AND llama_filter_prob(concat(a.x, c.id), ''d'') < 2 AND b.id < c.id');
RESET enable_nestloop;
SET enable_mergejoin = off;
SELECT same_order('SELECT a.id, b.id FROM a LEFT JOIN b ON a.k < b.id AND llama_filter_prob(concat(a.x, b.id), ''c'') < 2 AND (a.id + b.id) % 3 = 1 LIMIT 20');
RESET enable_hashjoin;
RESET enable_mergejoin;
-- no more is read ahead than is asked for
SELECT made('SELECT a.id, b.id FROM a LEFT JOIN b ON a.id >= b.id AND llama_filter_prob(a.id::text, b.id::text) < 2 LIMIT 1');
-- in several batches of the hash table, with more rows kept than memory holds
SET work_mem = '64kB';
SET enable_mergejoin = off;
SET enable_nestloop = off;
SELECT type, same(format('SELECT v.id, w.id, v.fill, w.fill FROM (SELECT * FROM wide WHERE id <= 400) v %s JOIN (SELECT * FROM wide WHERE id > 200) w ON v.id = w.id AND llama_filter_prob(v.x, ''c'') < 2 AND v.id %% 3 = w.id %% 5', type))
	FROM unnest(ARRAY['LEFT', 'RIGHT', 'FULL']) type;
RESET work_mem;
RESET enable_mergejoin;
RESET enable_nestloop;
-- again for each row of another
SELECT plan('SELECT u.id, s.* FROM u, LATERAL (SELECT a.id, b.id AS bid FROM a FULL JOIN b ON a.k = b.k AND llama_filter(concat(a.x, u.x), b.x) OFFSET 0) s');
SELECT same('SELECT u.id, s.* FROM u, LATERAL (SELECT a.id, b.id AS bid FROM a FULL JOIN b ON a.k = b.k AND llama_filter_prob(concat(a.k, u.x), b.x) < 2 AND (a.id + b.id) % 3 = u.id % 3 OFFSET 0) s');
SELECT same('SELECT u.id, s.* FROM u, LATERAL (SELECT v.id, b.id AS bid FROM (SELECT * FROM a WHERE a.k >= u.id) v LEFT JOIN b ON v.k = b.k AND llama_filter_prob(v.x, b.x) < 2 AND (v.id + b.id) % 3 = 1 OFFSET 0) s');
SELECT same('SELECT u.id, (SELECT count(b.id) * 100 + count(*) FROM a LEFT JOIN b ON a.k = b.k AND llama_filter_prob(concat(a.k, u.x), b.x) < 2 AND b.id > u.id) FROM u');
-- in parallel, also with one hash table for all processes, in one batch or several
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT plan('SELECT v.id, w.id FROM wide v LEFT JOIN wide w ON v.id = w.id + 100 AND llama_filter(v.x, w.x)');
SELECT same('SELECT v.id, w.id, w.fill FROM wide v LEFT JOIN wide w ON v.id / 2 = w.id / 3 AND llama_filter_prob(v.x, ''c'') < 2 AND (v.id + w.id) % 5 = 0');
SET work_mem = '64kB';
SELECT same('SELECT v.id, w.id, w.fill FROM wide v LEFT JOIN wide w ON v.id / 2 = w.id / 3 AND llama_filter_prob(v.x, ''c'') < 2 AND (v.id + w.id) % 5 = 0');
SELECT same('SELECT v.id, w.id, w.fill FROM wide v FULL JOIN wide w ON v.id / 2 = w.id / 3 AND llama_filter_prob(v.x, ''c'') < 2 AND (v.id + w.id) % 5 = 0');
RESET work_mem;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
SET max_parallel_workers_per_gather = 0;
-- a plan for any argument, run again
SET plan_cache_mode = force_generic_plan;
PREPARE p (int) AS SELECT count(*), count(a.id), count(b.id) FROM a FULL JOIN b ON a.k = b.k AND llama_filter_prob(concat(a.x, $1), b.x) IS NOT NULL AND b.id > $1;
EXECUTE p (0);
EXECUTE p (9);
EXECUTE p (0);
SET llama3.enable_batching = off;
DEALLOCATE p;
PREPARE p (int) AS SELECT count(*), count(a.id), count(b.id) FROM a FULL JOIN b ON a.k = b.k AND llama_filter_prob(concat(a.x, $1), b.x) IS NOT NULL AND b.id > $1;
EXECUTE p (0);
EXECUTE p (9);
RESET llama3.enable_batching;
DEALLOCATE p;
RESET plan_cache_mode;
-- cursors keep what they hold between fetches
BEGIN;
DECLARE c CURSOR FOR SELECT a.id, b.id IS NULL AS alone FROM a LEFT JOIN b ON a.id = b.k AND llama_filter_prob(concat(a.x, ''), concat(b.x, '')) < 2 AND b.id > 9 WHERE a.id < 5 ORDER BY a.id;
FETCH 2 FROM c;
FETCH 5 FROM c;
CLOSE c;
COMMIT;
-- the error of a pair that nobody comes to
CREATE FUNCTION labels(id int) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN id = 3 THEN ARRAY['p'] ELSE ARRAY['p', 'q'] END $$;
SELECT count(*) FROM (SELECT a.id FROM a LEFT JOIN b ON a.id >= b.id AND llama_classify(a.x, labels(a.id)) IN ('p', 'q') LIMIT 2) s;
SELECT count(*) FROM (SELECT a.id FROM a LEFT JOIN b ON a.id >= b.id AND llama_classify(a.x, labels(a.id)) IN ('p', 'q') LIMIT 9) s;
-- writing
CREATE TABLE target AS SELECT id, k, x, NULL::int AS b FROM a;
UPDATE target t SET b = s.b FROM (SELECT a.id, max(b.id) AS b FROM a LEFT JOIN b ON a.k = b.k AND llama_filter_prob(a.x, b.x) < 2 AND b.id < a.id GROUP BY 1) s WHERE t.id = s.id;
SELECT count(*) FILTER (WHERE t.b IS DISTINCT FROM (SELECT max(b.id) FROM b WHERE b.k = t.k AND b.id < t.id AND b.x IS NOT NULL AND t.x IS NOT NULL)) AS wrong, count(b) > 0 AS some FROM target t;
-- subqueries in conditions and in calls' arguments
SELECT same('SELECT a.id, b.id, (SELECT max(u.x) FROM u WHERE u.id < b.k) FROM a LEFT JOIN b ON a.k = b.k AND llama_filter_prob(concat(a.x, (SELECT max(u.x) FROM u WHERE u.id < b.k)), b.x) < 2 AND (a.id + b.id) % 3 = (SELECT min(u.id) FROM u WHERE u.id <> a.k) WHERE b.id IS NULL OR b.id <> (SELECT max(u.id) FROM u)');
SELECT plan('SELECT a.id, b.id FROM a LEFT JOIN b ON a.k = b.k AND llama_filter(concat(a.x, (SELECT max(u.x) FROM u WHERE u.id < b.k)), b.x) AND (a.id + b.id) % 3 = (SELECT min(u.id) FROM u WHERE u.id <> a.k)');
-- row by row as ever: with effects, and where a join stops at the first match
SELECT plan('SELECT 1 FROM a LEFT JOIN (SELECT *, nextval(''ticks'') FROM b OFFSET 0) s ON a.k = s.k AND llama_filter(a.x, s.x)');
SELECT plan('SELECT 1 FROM a LEFT JOIN b ON a.k = b.k AND llama_filter(a.x, b.x) AND random() < 2');
SELECT plan('SELECT a.id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.k = b.k AND llama_filter(a.x, b.x))');
SELECT plan('SELECT a.id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE a.k = b.k AND llama_filter(a.x, b.x))');

SET client_min_messages = warning;
DROP SCHEMA joins CASCADE;
