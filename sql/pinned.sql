-- Pinned forms: the same answers, by a model that is named by its checksum, and
-- so IMMUTABLE; another model or a setting never decides an answer.
SET max_parallel_workers_per_gather = 0;
CREATE SCHEMA pinned;
SET search_path = pinned, public;
SELECT llama_pin() AS pin \gset
SELECT split_part(:'pin', '@', 2) AS checksum \gset
SELECT llama_pin() = llama_pin('tiny') AND llama_pin() = llama_pin(NULL) AS same_model,
	:'pin' = (SELECT name || '@' || checksum FROM llama_models WHERE name = 'tiny') AS as_shown;

-- every function that asks the engine and can be called per row has its pinned form: immutable, all else alike,
-- with the model after the arguments that must be given, and no default for it, and no type
CREATE VIEW arguments AS
SELECT p.oid, p.proname, p.proargnames AS names, p.pronargs - p.pronargdefaults AS n_required, p.pronargs AS n,
	ARRAY(SELECT format('%s %s', name, type::regtype) FROM unnest(p.proargnames, p.proargtypes::oid[]) WITH ORDINALITY AS a (name, type, number)
		WHERE name <> 'model' AND type <> 'regtype'::regtype ORDER BY number) AS plain
FROM pg_proc p WHERE proname LIKE 'llama\_%' AND prokind = 'f';
SELECT regexp_replace(p.proname, '_pinned$', '') AS function, i.provolatile AS pinned, s.provolatile AS not,
	i.prorettype = s.prorettype AND i.procost = s.procost AND i.proparallel = s.proparallel AND i.proisstrict = s.proisstrict AND i.prosupport = s.prosupport AS alike,
	p.names[p.n_required] = 'model' AND u.names[u.n] = 'model' AS model_is_required,
	p.plain = u.plain AND p.n = cardinality(p.plain) + 1 AS same_arguments
FROM arguments p LEFT JOIN arguments u ON p.proname = u.proname || '_pinned' LEFT JOIN pg_proc i ON i.oid = p.oid LEFT JOIN pg_proc s ON s.oid = u.oid
WHERE p.proname LIKE '%\_pinned' ORDER BY p.proname COLLATE "C";
-- nothing else is immutable, aggregates aside
SELECT proname, provolatile FROM pg_proc WHERE proname LIKE 'llama\_%' AND prokind = 'f' AND provolatile = 'i' AND proname NOT LIKE '%\_pinned';

-- the same answers
CREATE TABLE calls (number serial, call text);
INSERT INTO calls (call) VALUES
	('llama_generate%1$s(''x'', max_tokens => 5%2$s)'),
	('llama_generate%1$s(''x'', system => ''Be brief.'', max_tokens => 5, temperature => 0.9, top_p => 0.9, top_k => 40, min_p => 0.01, seed => 7, stop => ARRAY[''zz''], repeat_penalty => 1.1%2$s)'),
	('llama_chat%1$s(''[{"role": "user", "content": "x"}]'', max_tokens => 5, seed => 3, temperature => 1%2$s)'),
	('llama_complete%1$s(''x'', max_tokens => 5%2$s)'),
	('llama_classify%1$s(''x'', ''{a,b}''%2$s)'),
	('llama_classify%1$s(''x'', ''{a,b}'', task => ''Sort.'', examples => ''[{"input": "y", "label": "b"}]'', calibrate => true%2$s)'),
	('llama_classify_prob%1$s(''x'', ''{a,b,c}''%2$s)'),
	('llama_classify_prob%1$s(''x'', ''{a,b,c}'', calibrate => true%2$s)'),
	('llama_classify_multi%1$s(''x'', ''{a,b,c}'', threshold => 0.2%2$s)'),
	('llama_filter%1$s(''x'', ''short''%2$s)'),
	('llama_filter_prob%1$s(''x'', ''short''%2$s)'),
	('llama_score%1$s(''x'', ''length'', low => 0, high => 9%2$s)'),
	('llama_rank%1$s(''what?'', ''x''%2$s)'),
	('llama_sentiment%1$s(''x'', aspect => ''size''%2$s)'),
	('llama_generate%1$s(''x'', max_tokens => 40, format => ''{"enum": ["one", "two"]}''%2$s)'),
	('llama_extract%1$s(''x'', ''{"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}'', instructions => ''Go.'', max_tokens => 30%2$s)'),
	('llama_summarize%1$s(''x'', max_words => 3%2$s)'),
	('llama_translate%1$s(''x'', ''French'', from_language => ''German''%2$s)'),
	('llama_redact%1$s(''x'', categories => ''{name}''%2$s)'),
	('llama_fix_grammar%1$s(''x''%2$s)'),
	('llama_embed%1$s(''x''%2$s)'),
	('llama_embed%1$s(''x'', dimensions => 3, pooling => ''last''%2$s)'),
	('llama_similarity%1$s(''x'', ''y''%2$s)');
CREATE FUNCTION answer(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	EXECUTE format('SELECT encode(record_send(ROW(%s)), ''hex'')', call) INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
CREATE FUNCTION pinned(call text, pin text) RETURNS text LANGUAGE sql AS $$ SELECT format(call, '_pinned', format(', model => %L', pin)) $$;
SELECT split_part(call, '%', 1) AS function, answer(format(call, '', '')) !~ ':' AS answered, answer(pinned(call, :'pin')) = answer(format(call, '', '')) AS same
FROM calls ORDER BY number;

-- a pin may leave out the name, and half of the checksum; a name may have an @
SELECT llama_embed_pinned('x', '@' || :'checksum') = llama_embed('x') AS by_checksum, llama_embed_pinned('x', '@' || left(:'checksum', 16)) = llama_embed('x') AS by_half,
	llama_embed_pinned('x', 'tiny@' || upper(left(:'checksum', 17))) = llama_embed('x') AS by_more_in_upper_case;
SELECT llama_load_model('tiny.gguf', 'my@tiny');
SELECT llama_embed_pinned('x', llama_pin('my@tiny')) = llama_embed('x') AS renamed;
SELECT llama_unload_model('my@tiny');

-- not a pin, no such model, another model
SELECT answer(format('llama_filter_pinned(''x'', ''y'', %L)', pin)) AS error
FROM unnest(ARRAY[NULL, '', 'tiny', 'tiny@', '@', 'tiny@0123456789abcde', 'tiny@0123456789abcdeg', 'tiny@ 0123456789abcdef',
	'tiny@' || repeat('0', 33), repeat('n', 64) || '@0123456789abcdef', 'none@0123456789abcdef', '@0123456789abcdef', 'tiny@0123456789abcdef'])
	WITH ORDINALITY AS p (pin, number) ORDER BY number;
SELECT llama_filter_pinned('x', 'y');
-- NULL text is answered by NULL before the model is looked for, as ever
SELECT llama_filter_pinned(NULL, 'y', 'tiny') IS NULL AS of_null;

-- settings decide nothing
SELECT llama_generate_pinned('tell', :'pin') = llama_generate('tell', max_tokens => 256) AS without_setting;
SELECT llama_generate_pinned('tell', :'pin') AS expected \gset
SET llama3.max_tokens = 1;
SET llama3.default_model = 'none';
SELECT llama_generate_pinned('tell', :'pin') = :'expected' AS with_settings;
RESET llama3.default_model;
RESET llama3.max_tokens;
SET llama3.on_error = 'null';
SELECT answer('llama_filter_pinned(repeat(''word '', 100000), ''y'', ' || quote_literal(:'pin') || ')') AS raised;
SELECT answer('llama_embed_pinned(repeat(''word '', 100000), ' || quote_literal(:'pin') || ')') AS raised_too;
\set VERBOSITY sqlstate
SELECT llama_filter(repeat('word ', 100000), 'y') IS NULL AS not_pinned;
\set VERBOSITY default
RESET llama3.on_error;

-- a generated column
CREATE FUNCTION run(statement text, pin text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format(statement, pin); END $$;
CREATE TABLE tickets (id int PRIMARY KEY, body text);
SELECT run($$ALTER TABLE tickets ADD label text GENERATED ALWAYS AS (llama_classify_pinned(body, '{bug,praise,question}', model => %L)) STORED$$, :'pin');
INSERT INTO tickets SELECT i, CASE WHEN i % 10 <> 0 THEN 'ticket ' || i END FROM generate_series(1, 60) i;
SELECT count(*), bool_and(label IS NOT DISTINCT FROM llama_classify(body, '{bug,praise,question}')) AS right, count(*) FILTER (WHERE label IS NULL) AS nulls FROM tickets;
UPDATE tickets SET body = 'other ' || id WHERE id <= 30;
SELECT bool_and(label IS NOT DISTINCT FROM llama_classify(body, '{bug,praise,question}')) AS right FROM tickets;

-- an expression index, used by a query
SELECT run('CREATE INDEX tickets_score ON tickets (llama_score_pinned(body, ''urgency'', %L))', :'pin');
ANALYZE tickets;
CREATE FUNCTION plan(query text, pin text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off, VERBOSE) ' || query LOOP
		RETURN NEXT replace(line, pin, 'PIN');
	END LOOP;
END $$;
SELECT format('SELECT id FROM tickets WHERE llama_score_pinned(body, ''urgency'', %L) BETWEEN 2.5 AND 3.2', :'pin') AS query \gset
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT plan(:'query', :'pin');
CREATE TABLE found AS :query;
RESET enable_seqscan;
RESET enable_bitmapscan;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT plan(:'query', :'pin');
CREATE TABLE computed AS :query;
RESET enable_indexscan;
RESET enable_bitmapscan;
SELECT count(*) > 0 AS some, (SELECT array_agg(id ORDER BY id) FROM found) = array_agg(id ORDER BY id) AS the_same FROM computed;
SELECT plan(format('SELECT id FROM tickets ORDER BY llama_score_pinned(body, ''urgency'', %L) LIMIT 3', :'pin'), :'pin');
-- entries follow updates
UPDATE tickets SET body = 'again ' || id WHERE id > 50;
SET enable_seqscan = off;
SELECT array_agg(id ORDER BY id) FROM tickets WHERE id > 50 AND llama_score_pinned(body, 'urgency', :'pin') = llama_score(body, 'urgency');
RESET enable_seqscan;
-- those that are not pinned cannot be in one
CREATE INDEX ON tickets (llama_score(body, 'urgency'));

-- they are batched, with the same rows as without
SELECT plan(format('SELECT llama_complete_pinned(body, %L, 3) FROM tickets', :'pin'), :'pin');
SELECT format('SELECT md5(string_agg(llama_complete_pinned(body, %1$L, 3) || llama_extract_pinned(body, ''{"type": "boolean"}'', %1$L, max_tokens => 9)::text, '','' ORDER BY id)) FROM tickets', :'pin') AS query \gset
:query \gset generated_
SELECT md5(string_agg(llama_complete(body, 3) || llama_extract(body, '{"type": "boolean"}', max_tokens => 9)::text, ',' ORDER BY id)) = :'generated_md5' AS generated_alike FROM tickets;
SELECT plan(format('SELECT id, llama_filter_pinned(body, ''a'', %1$L) FROM tickets WHERE llama_rank_pinned(''q'', body, %1$L) > 0.1', :'pin'), :'pin');
SELECT format('SELECT md5(string_agg(concat(id, llama_embed_pinned(body, %1$L), llama_filter_prob_pinned(body, label, %1$L), llama_similarity_pinned(body, ''a'', %1$L)), '','' ORDER BY id)) FROM tickets', :'pin') AS query \gset
:query \gset batched_
SET llama3.enable_batching = off;
:query \gset plain_
RESET llama3.enable_batching;
SELECT :'batched_md5' = :'plain_md5' AS batched_as_plain;
SELECT md5(string_agg(concat(id, llama_embed(body), llama_filter_prob(body, label), llama_similarity(body, 'a')), ',' ORDER BY id)) = :'plain_md5' AS as_not_pinned FROM tickets;
-- in a statement of its own: an error of the pin is raised when its row is taken
SELECT id, llama_filter_pinned(body, 'a', CASE WHEN id < 3 THEN :'pin' ELSE 'tiny@0123456789abcdef' END) IS NOT NULL FROM tickets WHERE id < 10 AND body IS NOT NULL ORDER BY id LIMIT 2;
-- constants are answered by the planner
SELECT plan(format('SELECT llama_filter_pinned(''x'', ''y'', %L) IN (true, false)', :'pin'), :'pin');
-- an answer to the same question is found in the cache, pinned or not
SET llama3.enable_result_cache = on;
SELECT hits AS before FROM llama_stat_result_cache \gset
SELECT llama_filter_prob(body, 'pinned or not') IS NOT NULL FROM tickets WHERE id = 1;
SELECT llama_filter_prob_pinned(body, 'pinned or not', :'pin') IS NOT NULL FROM tickets WHERE id = 1;
SELECT hits - :before AS hits FROM llama_stat_result_cache;
