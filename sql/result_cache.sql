-- Answers that were computed before: what is found again and what is not, and
-- that a found answer is the computed one.
SET llama3.enable_result_cache = on;
SET max_parallel_workers_per_gather = 0;
CREATE SCHEMA result_cache;
SET search_path = result_cache, public;
CREATE TABLE words (id int, x text);
INSERT INTO words SELECT i, CASE WHEN i <> 7 THEN 'word ' || i % 10 END FROM generate_series(1, 20) i;

-- what a statement asked of the engine and of the cache
CREATE FUNCTION work(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE a record; b record;
BEGIN
	SELECT * INTO a FROM llama_stat, llama_stat_result_cache;
	EXECUTE statement;
	SELECT * INTO b FROM llama_stat, llama_stat_result_cache;
	RETURN format('%s requests, %s hits, %s misses, %s stored', b.requests_done - a.requests_done,
		b.hits - a.hits, b.misses - a.misses, b.stored - a.stored);
END $$;
-- the bytes of an answer, with the cache and without
CREATE FUNCTION answer(call text, cached boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	PERFORM set_config('llama3.enable_result_cache', cached::text, true);
	EXECUTE format('SELECT md5(record_send(ROW(%s)))', call) INTO result;
	PERFORM set_config('llama3.enable_result_cache', 'on', true);
	RETURN result;
END $$;

-- every function: computed once, then found, and the same bytes as without the cache
CREATE TABLE calls (number serial, call text);
INSERT INTO calls (call) VALUES
	('llama_generate(''x'', max_tokens => 5)'),
	('llama_generate(''x'', ''Be brief.'', 5, 0.9, 0.9, 40, 0.01, 7, ARRAY[''zz''], 1.1)'),
	('llama_chat(''[{"role": "user", "content": "x"}]'', max_tokens => 5)'),
	('llama_chat(''[{"role": "user", "content": "x"}]'', max_tokens => 5, format => ''{"type": "integer"}'')'),
	('llama_extract(''x'', ''{"type": "boolean"}'')'),
	('llama_complete(''x'', max_tokens => 5)'),
	('llama_classify(''x'', ''{a,b}'')'),
	('llama_classify(''x'', ''{a,b}'', ''Sort.'', ''[{"input": "y", "label": "b"}]'', true)'),
	('llama_classify_prob(''x'', ''{a,b,c}'')'),
	('llama_classify_multi(''x'', ''{a,b,c}'', threshold => 0.2)'),
	('llama_filter(''x'', ''short'')'),
	('llama_filter_prob(''x'', ''short'')'),
	('llama_score(''x'', ''length'')'),
	('llama_rank(''what?'', ''x'')'),
	('llama_sentiment(''x'')'),
	('llama_summarize(''x'', 3)'),
	('llama_translate(''x'', ''French'')'),
	('llama_redact(''x'', ''{name}'')'),
	('llama_fix_grammar(''x'')'),
	('llama_embed(''x'')'),
	('llama_embed(''x'', 3, ''last'')'),
	('llama_similarity(''x'', ''y'')');
SELECT split_part(call, '(', 1) AS function, work('SELECT ' || call) AS first, work('SELECT ' || call) AS again,
	answer(call, true) = answer(call, false) AS same
FROM (SELECT * FROM calls ORDER BY number OFFSET 0) c;

-- a type can change its meaning: answers for one are not kept
SELECT call, work('SELECT ' || call) AS first, work('SELECT ' || call) AS again
FROM unnest(ARRAY['llama_extract(''x'', schema_type => ''words'', max_tokens => 40)', 'llama_generate(''x'', format_type => ''bool'')']) call;

-- rows of a batch: found in the window, in the cache, or made
CREATE FUNCTION counts(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE node jsonb; plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING off, SUMMARY off, FORMAT json) ' || query INTO plan;
	node := jsonb_path_query_first(plan::jsonb, 'strict $.** ? (@."Custom Plan Provider" == "Llama Batch")');
	RETURN format('%s made, %s reused, %s cached, %s', node->'Calls Made', node->'Calls Reused', node->'Calls Cached',
		CASE WHEN (node->>'Prompt Tokens')::int > 0 THEN 'tokens' ELSE 'no tokens' END);
END $$;
SELECT counts('SELECT llama_rank(''q'', x) FROM words') AS first;
SELECT counts('SELECT llama_rank(''q'', x) FROM words') AS again;
SELECT counts('SELECT llama_rank(''q'', x) FROM (SELECT * FROM words UNION ALL SELECT 30, ''new'') w') AS one_is_new;
-- a plain call finds what a batch stored
SET llama3.enable_batching = off;
SELECT work('SELECT llama_rank(''q'', x) FROM words');
RESET llama3.enable_batching;

-- a value is the same in all forms: inline, compressed, out of line, expanded
CREATE TABLE long (form text, x text) WITH (toast_tuple_target = 128);
ALTER TABLE long ALTER x SET STORAGE EXTERNAL;
INSERT INTO long VALUES ('out of line', repeat('many words ', 250));
ALTER TABLE long ALTER x SET STORAGE MAIN;
INSERT INTO long VALUES ('compressed', repeat('many words ', 250));
ALTER TABLE long ALTER x SET STORAGE PLAIN;
INSERT INTO long VALUES ('inline', repeat('many words ', 250));
SELECT form, pg_column_size(x) < 2750 AS compressed FROM long;
SELECT DISTINCT llama_filter(x, 'long') IS NOT NULL AS answered FROM long;
SELECT llama_result_cache_reset();
SELECT form, work(format('SELECT llama_filter(x, ''long'') FROM long WHERE form = %L', form)) FROM long;
SET llama3.enable_batching = off;
SELECT form, work(format('SELECT llama_filter(x, ''long'') FROM long WHERE form = %L', form)) FROM long;
RESET llama3.enable_batching;
SELECT work($$DO 'DECLARE labels text[]; BEGIN labels[1] := ''a''; labels[2] := ''b''; PERFORM llama_classify(''x'', labels); END'$$) AS expanded;

-- arguments that were not given: NULL is the same as nothing; a setting that stands for one counts
SELECT work('SELECT llama_complete(''n'')') AS nothing, work('SELECT llama_complete(''n'', NULL, NULL, NULL)') AS nulls;
SET llama3.max_tokens = 3;
SELECT work('SELECT llama_complete(''n'')') AS other_setting;
SELECT llama_complete('n') = llama_complete('n', 3) AS short;
RESET llama3.max_tokens;
SELECT work('SELECT llama_complete(''n'')') AS first_setting;
SELECT llama_complete('n') <> llama_complete('n', 3) AS long;
-- the model's name and llama3.on_error do not
SELECT work('SELECT llama_complete(''n'', model => ''tiny'')') AS named;
SET llama3.on_error = 'null';
SELECT work('SELECT llama_complete(''n'')') AS on_error;
-- every other argument does
SELECT work('SELECT llama_complete(''n'', seed => 1)') AS seed, work('SELECT llama_complete(''n'', stop => ''{a}'')') AS stop,
	work('SELECT llama_classify(''x'', ''{b,a}'')') AS order_of_labels, work('SELECT llama_similarity(''y'', ''x'')') AS order_of_texts;
SELECT work('SELECT llama_generate(''n'', max_tokens => 4)') AS generate, work('SELECT llama_complete(''n'', max_tokens => 4)') AS complete;

-- errors, and NULLs that stand for them, are not kept
\set VERBOSITY sqlstate
SELECT work('SELECT llama_filter(repeat(''word '', 100000), ''long'')') AS too_long, work('SELECT llama_filter(repeat(''word '', 100000), ''long'')') AS again;
RESET llama3.on_error;
SELECT llama_filter(repeat('word ', 100000), 'long');
-- what raises still raises when the same text has an answer
SELECT llama_filter('x', ' ');
SELECT llama_embed('x', 0);
SELECT llama_embed('x', model => 'none');
SELECT work('SELECT llama_filter(NULL, ''short'')') AS of_null, llama_filter(NULL, 'short') IS NULL AS is_null;
-- streams and log-probabilities are computed
SELECT work('SELECT llama_generate_stream(''x'', max_tokens => 5)') AS stream, work('SELECT llama_logprobs(''a'', ''b'')') AS logprobs;

-- who may not call a function is not answered from the cache
CREATE ROLE llama3_reader;
GRANT USAGE ON SCHEMA result_cache TO llama3_reader;
GRANT SELECT ON words TO llama3_reader;
REVOKE ALL ON FUNCTION llama_filter(text, text, text) FROM PUBLIC;
SET ROLE llama3_reader;
SELECT llama_filter('x', 'short');
SELECT llama_filter('x', 'short') FROM words;
SELECT llama_result_cache_reset();
SELECT count(*) FROM llama_stat_result_cache;
RESET ROLE;
GRANT EXECUTE ON FUNCTION llama_filter(text, text, text) TO PUBLIC;
DROP OWNED BY llama3_reader;
DROP ROLE llama3_reader;
\set VERBOSITY default

-- a session without it asks and stores nothing
SET llama3.enable_result_cache = off;
SELECT work('SELECT llama_filter(''x'', ''short'')') AS session, work('SELECT llama_filter(''of this session'', ''short'')') AS another;
SET llama3.enable_result_cache = on;
SELECT work('SELECT llama_filter(''of this session'', ''short'')') AS stored_by_none;

-- emptied
SELECT entries > 20 AS entries, used_bytes BETWEEN entries * 56 AND size_bytes AS used, size_bytes, evicted FROM llama_stat_result_cache;
SELECT llama_result_cache_reset();
SELECT entries, used_bytes, hits > 0 AS statistics_stay FROM llama_stat_result_cache;
SELECT work('SELECT llama_filter(''x'', ''short'')') AS computed, work('SELECT llama_filter(''x'', ''short'')') AS found;
