-- The tokenizer's functions: exact round trips, special tokens only where
-- asked for, cuts at whole tokens and whole characters.
CREATE TEMP TABLE samples (s text);
INSERT INTO samples VALUES
	(''), (' '), ('  x'), ('The reader asks for the rows of a table.'), (E'a\n\n\n  b\t\tc  '),
	('1234567890'), ('café crème brûlée'), ('日本語のテキスト'), ('🙂👩‍👩‍👧‍👦'), ('مرحبا بالعالم'),
	('SELECT 1; -- it''s'), (repeat('a', 5000)), (repeat(' ', 5000)), (repeat('é', 2500));

SELECT bool_and(llama_detokenize(llama_tokenize(s)) = s) AS round_trip FROM samples;
SELECT bool_and(cardinality(llama_tokenize(s)) = llama_count_tokens(s)) AS counted FROM samples;
SELECT llama_tokenize(''), llama_count_tokens(''), llama_detokenize('{}');
SELECT array_ndims(llama_tokenize('abc')), array_lower(llama_tokenize('abc'), 1), pg_typeof(llama_tokenize('abc'));

-- special tokens in a user's text are text
SELECT cardinality(llama_tokenize('<|eot_id|>')) > 1 AS text,
	cardinality(llama_tokenize('<|eot_id|>', special => true)) AS token,
	llama_tokenize('<|eot_id|>', special => NULL) = llama_tokenize('<|eot_id|>') AS null_is_false,
	llama_detokenize(llama_tokenize('a<|eot_id|>b', special => true)) AS round_trip;

-- detokenize checks what it is given
\set VERBOSITY terse
SELECT llama_detokenize('{-1}');
SELECT llama_detokenize('{512}');
SELECT llama_detokenize('{1, NULL}');
SELECT llama_detokenize('{{1}, {2}}');
\set VERBOSITY default
SELECT llama_detokenize('{511}') <> '' AS last_token;
SELECT llama_detokenize('[5:6]={64,65}') = llama_detokenize('{64,65}') AS bounds_do_not_matter;

-- truncate: a beginning of the text, within the limit, and all of it when it fits
SELECT bool_and(starts_with(s, t) AND llama_count_tokens(t) <= n) AS cut_within_limit,
	bool_and(t = s) FILTER (WHERE llama_count_tokens(s) <= n) AS whole_when_it_fits,
	bool_and(t = '') FILTER (WHERE n = 0) AS nothing_of_zero
FROM samples, generate_series(0, 30) n, LATERAL llama_truncate(s, n) t;
-- the longest such beginning keeps all the tokens it may in plain prose
SELECT llama_count_tokens(llama_truncate(s, 5)) FROM samples WHERE s LIKE 'The reader%';
-- never half a character: what is left is whole characters of the text
SELECT bool_and(t = left(s, length(t))) FROM samples, generate_series(0, 12) n, LATERAL llama_truncate(s, n) t
WHERE s ~ '[日🙂م]';
SELECT llama_truncate('any', 2147483647);

-- long input stays near-linear and can be interrupted
SELECT llama_count_tokens(repeat('x', 1000000)) > 0 AS one_run,
	llama_count_tokens(repeat('many words ', 100000)) >= 100000 AS many_words;
