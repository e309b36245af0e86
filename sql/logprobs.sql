-- Teacher-forced log-probabilities.
SELECT column_name, type FROM (SELECT unnest(proargnames) AS column_name, unnest(proallargtypes)::regtype AS type, unnest(proargmodes) AS mode
	FROM pg_proc WHERE proname = 'llama_logprobs') c WHERE mode = 't';

-- one row for each token of the completion, in order; the pieces are its text
SELECT array_agg(token ORDER BY position) = llama_tokenize('keeps its rows in pages') AS tokens,
	string_agg(piece, '' ORDER BY position) = 'keeps its rows in pages' AS pieces,
	array_agg(position ORDER BY position) = ARRAY(SELECT generate_series(1, llama_count_tokens('keeps its rows in pages'))) AS positions,
	bool_and(logprob <= 0) AS negative
FROM llama_logprobs('A table ', 'keeps its rows in pages');

SELECT (SELECT array_agg(l) FROM llama_logprobs('a', 'b c d') l) = (SELECT array_agg(l) FROM llama_logprobs('a', 'b c d') l) AS same_twice;
SELECT (SELECT sum(logprob) FROM llama_logprobs('one prompt', 'x y')) <> (SELECT sum(logprob) FROM llama_logprobs('another prompt', 'x y')) AS prompt_matters;

-- a token's number does not depend on what comes after it
SELECT bool_and(a.logprob = b.logprob) FROM llama_logprobs('A table', ' keeps its rows') a
	JOIN llama_logprobs('A table', ' keeps its rows in pages, and every page') b USING (position);

-- the greedy next token is the most probable of all tokens
WITH next AS (SELECT llama_tokenize(llama_complete('A table', max_tokens => 1)) AS ids)
SELECT cardinality(ids) <> 1 OR (SELECT logprob FROM llama_logprobs('A table', llama_detokenize(ids)))
	>= (SELECT max(logprob) FROM (VALUES (' the'), (' a'), ('.'), (' is'), ('x')) w(c), LATERAL llama_logprobs('A table', c) WHERE position = 1) AS greedy
FROM next;

-- an empty prompt is the beginning of a text; an empty completion has no rows
SELECT count(*) FROM llama_logprobs('', 'x');
SELECT count(*) FROM llama_logprobs('x', '');
SELECT count(*) > 4 AS bytes_of_characters, bool_and(length(piece) > 0) AS valid FROM llama_logprobs('x', '🙂🙂');

\set VERBOSITY sqlstate
SELECT * FROM llama_logprobs(repeat('word ', 100000), 'x');
SELECT * FROM llama_logprobs('x', repeat('word ', 100000));
SELECT * FROM llama_logprobs(repeat('a b ', 3000), repeat('a b ', 3000));
SET llama3.on_error = 'null';
SELECT * FROM llama_logprobs('x', repeat('word ', 100000));
RESET llama3.on_error;
