-- Wrong arguments raise 22023 before any work, with a message that names them;
-- NULL means the default; NULL text in gives NULL out.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.error_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ': ' || SQLERRM || CASE WHEN detail <> '' THEN ': ' || detail ELSE '' END;
END $$;

-- options of generation
SELECT pg_temp.error_of('SELECT llama_generate(''x'', ' || option || ')')
FROM unnest(ARRAY[
	'max_tokens => 0', 'max_tokens => -1', 'max_tokens => 1048577',
	'temperature => -0.1', 'temperature => 2.1', 'temperature => ''NaN''', 'temperature => ''Infinity''',
	'top_p => -0.1', 'top_p => 1.1', 'top_p => ''NaN''',
	'top_k => -1', 'top_k => 1048577',
	'min_p => -0.1', 'min_p => 1.1', 'min_p => ''NaN''',
	'seed => -1',
	'repeat_penalty => 0', 'repeat_penalty => 10.5', 'repeat_penalty => ''NaN''',
	'stop => ARRAY[''a'', NULL]', 'stop => ARRAY['''']', 'stop => ARRAY[[''a''],[''b'']]',
	'stop => array_fill(''a''::text, ARRAY[17])', 'stop => ARRAY[repeat(''a'', 1025)]']) option;

-- the other generating functions read the same options
SELECT pg_temp.error_of($$SELECT llama_chat('[{"role": "user", "content": "x"}]', temperature => 3)$$);
SELECT pg_temp.error_of($$SELECT llama_complete('x', temperature => 3)$$);
SELECT pg_temp.error_of($$SELECT llama_generate_stream('x', temperature => 3)$$);

-- the ends of each range are inside, and an empty list of stops is none
SELECT pg_temp.error_of('SELECT llama_generate(''x'', max_tokens => 2, ' || option || ')')
FROM unnest(ARRAY[
	'temperature => 0', 'temperature => 2', 'top_p => 0', 'top_p => 1', 'top_k => 0', 'top_k => 1048576',
	'min_p => 0', 'min_p => 1', 'seed => 9223372036854775807', 'repeat_penalty => 0.1',
	'repeat_penalty => 10', 'stop => ''{}''', 'stop => array_fill(''q''::text, ARRAY[16])']) option;

-- NULL options are the defaults
SELECT llama_generate('x', NULL, 8, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
	= llama_generate('x', max_tokens => 8, temperature => 0, top_p => 1, top_k => 0, min_p => 0,
					 seed => 0, stop => '{}', repeat_penalty => 1, model => 'tiny');

-- labels
SELECT pg_temp.error_of('SELECT ' || f || '(''x'', ' || labels || ')')
FROM unnest(ARRAY['llama_classify', 'llama_classify_prob']) f,
	unnest(ARRAY['NULL', '''{}''', 'ARRAY[''a'']', 'ARRAY[''a'', NULL]', 'ARRAY[''a'', '''']',
				 'ARRAY[''a'', ''  '']', 'ARRAY[''a'', ''b'', ''a'']', 'ARRAY[[''a'', ''b''], [''c'', ''d'']]',
				 '(SELECT array_agg(i::text) FROM generate_series(1, 1001) i)']) labels;

-- examples
SELECT pg_temp.error_of(format('SELECT llama_classify(''x'', ARRAY[''a'', ''b''], examples => %L)', examples))
FROM unnest(ARRAY['{}', '"a"', '1', '[1]', '["a"]', '[[]]', '[{}]', '[{"input": "x"}]', '[{"label": "a"}]',
				  '[{"input": 1, "label": "a"}]', '[{"input": "x", "label": null}]',
				  '[{"input": "x", "label": "a"}, {"input": "y", "label": "c"}]',
				  '[{"input": "x", "label": "a", "why": "z"}]']) examples;
SELECT pg_temp.error_of($$SELECT llama_classify('x', ARRAY['a', 'b'], examples => '[]')$$);

-- conditions, dimensions, poolings, numbers of tokens
SELECT pg_temp.error_of($$SELECT llama_filter('x', '')$$);
SELECT pg_temp.error_of($$SELECT llama_filter_prob('x', ' ')$$);
SELECT pg_temp.error_of($$SELECT llama_embed('x', dimensions => 0)$$);
SELECT pg_temp.error_of($$SELECT llama_embed('x', dimensions => 257)$$);
SELECT pg_temp.error_of($$SELECT llama_embed('x', dimensions => 100000)$$);
SELECT pg_temp.error_of($$SELECT llama_embed('x', pooling => 'max')$$);
SELECT pg_temp.error_of($$SELECT llama_truncate('x', -1)$$);

-- models
SELECT pg_temp.error_of('SELECT ' || call)
FROM unnest(ARRAY[$$llama_generate('x', model => 'none')$$, $$llama_chat('[{"role": "user", "content": "x"}]', model => 'none')$$,
				  $$llama_complete('x', model => 'none')$$, $$llama_generate_stream('x', model => 'none')$$,
				  $$llama_classify('x', ARRAY['a', 'b'], model => 'none')$$, $$llama_filter('x', 'y', model => 'none')$$,
				  $$llama_embed('x', model => 'none')$$, $$llama_similarity('x', 'y', model => 'none')$$,
				  $$llama_tokenize('x', model => 'none')$$, $$llama_detokenize('{1}', model => 'none')$$,
				  $$llama_count_tokens('x', model => 'none')$$, $$llama_truncate('x', 1, model => 'none')$$,
				  $$llama_logprobs('x', 'y', model => 'none')$$]) call;

-- NULL text in, NULL out, and no work: the model is not even looked for
SELECT llama_generate(NULL, model => 'none') IS NULL, llama_chat(NULL, model => 'none') IS NULL,
	llama_complete(NULL, model => 'none') IS NULL,
	llama_classify(NULL, ARRAY['a', 'b'], model => 'none') IS NULL,
	llama_classify_prob(NULL, ARRAY['a', 'b'], model => 'none') IS NULL,
	llama_filter(NULL, 'x', model => 'none') IS NULL, llama_filter('x', NULL, model => 'none') IS NULL,
	llama_filter_prob(NULL, 'x', model => 'none') IS NULL,
	llama_embed(NULL, model => 'none') IS NULL,
	llama_similarity(NULL, 'x', model => 'none') IS NULL, llama_similarity('x', NULL, model => 'none') IS NULL,
	llama_tokenize(NULL, model => 'none') IS NULL, llama_detokenize(NULL, model => 'none') IS NULL,
	llama_count_tokens(NULL, model => 'none') IS NULL, llama_truncate(NULL, 1, model => 'none') IS NULL,
	llama_truncate('x', NULL, model => 'none') IS NULL;
SELECT count(*) FROM llama_generate_stream(NULL, model => 'none');
SELECT count(*) FROM llama_logprobs(NULL, 'x', model => 'none');
SELECT count(*) FROM llama_logprobs('x', NULL, model => 'none');

-- a system text of NULL is none
SELECT llama_generate('x', NULL, max_tokens => 8) = llama_generate('x', max_tokens => 8);

-- one message in full
\set VERBOSITY default
SELECT llama_generate('x', temperature => 3);
