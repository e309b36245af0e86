-- Generation.  The model's weights are random: what is tested is how answers
-- behave, not what they say.
SET llama3.max_tokens = 32;

-- an answer is text, and the same each time
SELECT pg_typeof(llama_generate('What is a table?')), llama_generate('What is a table?') <> '' AS something,
	llama_generate('What is a table?') = llama_generate('What is a table?') AS same_twice,
	llama_complete('A table keeps its') = llama_complete('A table keeps its') AS complete_too;

-- what is asked matters
SELECT count(DISTINCT llama_generate('Question ' || i)) > 1 AS different FROM generate_series(1, 5) i;
SELECT llama_generate('x', 'Be brief.') <> llama_generate('x', 'Tell a long story.') AS system_matters;

-- an answer to one turn is the chat of one message
SELECT llama_generate('Hello', 'Be kind.') =
	llama_chat('[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]') AS same;

-- alone or among many rows
CREATE TEMP TABLE questions AS SELECT i, 'Question number ' || i AS q FROM generate_series(1, 8) i;
CREATE TEMP TABLE answers AS SELECT i, llama_generate(q, temperature => 0.8, seed => i) AS a FROM questions;
SELECT bool_and(a = llama_generate(q, temperature => 0.8, seed => i)) AS same_in_other_order
FROM (SELECT * FROM questions JOIN answers USING (i) ORDER BY i DESC) x;

-- greedy answers do not depend on the seed; sampled ones do, and on nothing else
SELECT llama_generate('x', seed => 1) = llama_generate('x', seed => 2) AS greedy;
SELECT count(DISTINCT llama_generate('x', temperature => 1.5, seed => i)) > 1 AS sampled FROM generate_series(1, 5) i;
SELECT llama_generate('x', temperature => 1.5, seed => 7) = llama_generate('x', temperature => 1.5, seed => 7) AS again;
SELECT llama_generate('x', temperature => 1.5, top_k => 1) = llama_generate('x') AS top_1_is_greedy;
SELECT llama_generate('x', temperature => 1.5, top_p => 0) = llama_generate('x') AS top_p_0_is_greedy;
SELECT llama_generate('x', temperature => 1.5, min_p => 1) = llama_generate('x') AS min_p_1_is_greedy;

-- max_tokens: a shorter answer is a beginning of the longer one
SELECT bool_and(starts_with(llama_complete('A table', max_tokens => n + 1), llama_complete('A table', max_tokens => n)))
FROM generate_series(1, 24) n;
-- also where the cut goes through a character: its first bytes are held back
SELECT bool_and(starts_with(longer, a)) FROM (
	SELECT a, lead(a) OVER (PARTITION BY s ORDER BY n) AS longer
	FROM generate_series(1, 20) s, generate_series(1, 20) n, LATERAL llama_complete('x', max_tokens => n, temperature => 2, seed => s) a) x;
SELECT llama_count_tokens(llama_complete('A table', max_tokens => 1)) <= 3 AS one_token;

-- stop: the answer ends before the first that appears
-- (bytes that are no character show as U+FFFD, so only ASCII is looked for)
WITH answers AS MATERIALIZED (SELECT q, llama_complete(q, max_tokens => 48) AS a FROM questions),
	parts AS (SELECT q, a, substr(a, n, 3) AS stop FROM answers, generate_series(2, 40) n
			  WHERE substr(a, n - 1, 4) ~ '^[ -~]{4}$' AND strpos(a, substr(a, n, 3)) = n)
SELECT count(*) > 0 AS tried,
	bool_and(llama_complete(q, max_tokens => 48, stop => ARRAY[stop]) = left(a, strpos(a, stop) - 1)) AS cut,
	bool_and(llama_complete(q, max_tokens => 48, stop => ARRAY['never there', stop]) = left(a, strpos(a, stop) - 1)) AS cut_by_second
FROM parts;

-- rows as they are made: the pieces are the answer
SELECT string_agg(piece, '') = (SELECT llama_generate('What is a row?', max_tokens => 32)) AS whole, count(*) > 0 AS pieces
FROM llama_generate_stream('What is a row?', max_tokens => 32) piece;
SELECT string_agg(piece, '') = (SELECT llama_generate('x', 'y', max_tokens => 24, temperature => 1.2, seed => 3)) AS whole
FROM (SELECT llama_generate_stream('x', 'y', max_tokens => 24, temperature => 1.2, seed => 3) AS piece) s;
-- per row of a table
SELECT bool_and(whole = llama_generate(q, max_tokens => 16)) FROM (
	SELECT q, string_agg(piece, '' ORDER BY n) AS whole
	FROM questions, LATERAL llama_generate_stream(q, max_tokens => 16) WITH ORDINALITY AS s(piece, n) GROUP BY q) x;

-- a prompt whose answer does not end soon (to repeat is rewarded)
SELECT 'Question number ' || i AS longest FROM generate_series(1, 40) i
ORDER BY length(llama_generate('Question number ' || i, max_tokens => 500, repeat_penalty => 0.5)) DESC LIMIT 1 \gset
-- requests of this session that are still there, a while after they were given up
CREATE FUNCTION pg_temp.left_behind() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		SELECT count(*) INTO n FROM llama_stat_requests WHERE pid = pg_backend_pid();
		EXIT WHEN n = 0;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN n;
END $$;
-- a stream that is not read to its end gives its request up
SELECT length(piece) > 0 AS first FROM (SELECT llama_generate_stream(:'longest', max_tokens => 4000, repeat_penalty => 0.5) AS piece LIMIT 1) s;
CREATE FUNCTION pg_temp.n_requests(piece text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT count(*) FROM llama_stat_requests WHERE pid = pg_backend_pid() AND state <> 'cancelled');
END $$;
SELECT count(*) AS rows, max(pg_temp.n_requests(piece)) <= 1 AS one_at_a_time
FROM questions, LATERAL (SELECT llama_generate_stream(:'longest' || left(q, 0), max_tokens => 4000, repeat_penalty => 0.5) AS piece LIMIT 1) s;
BEGIN;
DECLARE c CURSOR FOR SELECT llama_generate_stream(:'longest', max_tokens => 4000, repeat_penalty => 0.5) AS piece;
MOVE 1 IN c;
MOVE 2 IN c;
CLOSE c;
SELECT pg_temp.left_behind();
DECLARE c CURSOR FOR SELECT llama_generate_stream(:'longest', max_tokens => 4000, repeat_penalty => 0.5) AS piece;
MOVE 1 IN c;
SAVEPOINT s;
SELECT 1/0;
ROLLBACK TO s;
MOVE 1 IN c;
ROLLBACK;
-- two streams side by side, each in its own order
BEGIN;
DECLARE a CURSOR FOR SELECT llama_generate_stream('one', max_tokens => 20) AS piece;
DECLARE b CURSOR FOR SELECT llama_generate_stream('two', max_tokens => 20) AS piece;
MOVE 1 IN a;
MOVE 1 IN b;
MOVE 1 IN a;
MOVE ALL IN b;
MOVE ALL IN a;
COMMIT;
-- a cursor that outlives its transaction holds the rows
BEGIN;
DECLARE h CURSOR WITH HOLD FOR SELECT llama_generate_stream('x', max_tokens => 5) AS piece;
COMMIT;
MOVE 1 IN h;
CLOSE h;

-- in a function's loop
DO $$
DECLARE piece text; whole text := '';
BEGIN
	FOR piece IN SELECT llama_generate_stream('loop', max_tokens => 16) LOOP
		whole := whole || piece;
	END LOOP;
	ASSERT whole = llama_generate('loop', max_tokens => 16);
END $$;

-- a prompt over the context is the row's error
\set VERBOSITY sqlstate
SELECT llama_generate(repeat('word ', 100000));
SELECT llama_complete(repeat('word ', 9000));
SELECT llama_generate_stream(repeat('word ', 100000));
SET llama3.on_error = 'null';
SELECT llama_generate(repeat('word ', 100000)) IS NULL AS generated;
SELECT llama_generate(repeat('word ', 9000)) IS NULL AS generated;
SELECT llama_complete(repeat('word ', 100000)) IS NULL AS completed;
SELECT llama_chat(jsonb_build_array(jsonb_build_object('role', 'user', 'content', repeat('word ', 100000)))) IS NULL AS chatted;
SELECT count(*) AS pieces FROM llama_generate_stream(repeat('word ', 100000));
-- and a wrong argument is not
SELECT llama_generate('x', temperature => 5);
-- the rows around a bad one are answered
SELECT count(*), count(a) FROM (SELECT llama_generate(CASE i WHEN 2 THEN repeat('word ', 100000) ELSE 'x' END, max_tokens => 2) AS a
	FROM generate_series(1, 3) i) s;
RESET llama3.on_error;
\set VERBOSITY default

-- labels that the planner uses
SELECT proname, provolatile, proparallel, proisstrict, procost, proretset FROM pg_proc
WHERE proname LIKE 'llama\_%' AND provolatile = 's' AND NOT 'internal'::regtype = ANY (proargtypes) ORDER BY proname COLLATE "C";
