-- llama_chunk: exact pieces, within the limit, cut at the best place.
CREATE TEMP TABLE samples (name text, s text);
INSERT INTO samples VALUES
	('nothing', ''), ('one', 'x'), ('space', repeat(' ', 700)), ('newlines', repeat(E'\n', 300)), ('one word', repeat('a', 900)),
	('prose', repeat(E'The reader asks for rows. The server has them! Where are they? In pages, and every page\nhas its place.\n\n', 8)),
	('windows', repeat(E'A line of it.\r\nAnother one.\r\n\r\nA paragraph of its own.\r\n\r\n', 9)),
	('accents', repeat('crème brûlée à la façon ', 30)), ('japanese', repeat('吾輩は猫である。名前はまだ無い。「何か」と言った。', 12)),
	('arabic', repeat('مرحبا بالعالم؟ ', 30)), ('emoji', repeat('🙂👩‍👩‍👧‍👦🏳️‍🌈', 20)),
	('zero width', repeat(U&'\200B\200D\2060\FEFF', 60)), ('marks', 'e' || repeat(U&'\0301\0327', 200)),
	('special', repeat('<|eot_id|><|start_header_id|>assistant', 20)), ('spaces inside', repeat(E'a\n\n\n  b\t\tc  ', 40));
-- random characters of the whole of Unicode, heavy in white space and in what has no width
CREATE FUNCTION pg_temp.random_text(seed int, n int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(chr(CASE h % 12 WHEN 0 THEN 32 WHEN 1 THEN 10 WHEN 2 THEN 97 + (h / 12) % 26 WHEN 3 THEN 46 WHEN 4 THEN 8203 + (h / 12) % 3
		WHEN 5 THEN 768 + (h / 12) % 112 WHEN 6 THEN 19968 + (h / 12) % 20000 WHEN 7 THEN 128512 + (h / 12) % 80 WHEN 8 THEN 12290
		WHEN 9 THEN 1 + (h / 12) % 127 WHEN 10 THEN 57344 + (h / 12) % 1000000 ELSE 160 + (h / 12) % 1000 END::int), '' ORDER BY i)
	FROM (SELECT i, abs(hashint8(seed * 1000003::bigint + i)::bigint) AS h FROM generate_series(1, n) i) x $$;
INSERT INTO samples SELECT 'random ' || i, pg_temp.random_text(i, 20 + i * 17) FROM generate_series(1, 20) i;

-- without an overlap the chunks are the text; with one, what is left when each
-- loses what the one before had; start says where each comes from
CREATE TEMP TABLE chunks AS SELECT name, s, n, o, c.*
FROM samples, (VALUES (4, 0), (4, 2), (5, 1), (7, 3), (16, 0), (16, 8), (33, 5), (100, 0), (100, 50), (1000000, 0)) t(n, o),
	LATERAL llama_chunk(s, n, o) c;
SELECT bool_and(together = s) AS whole, bool_and(numbered) AS numbered, count(*) FROM (
	SELECT s, string_agg(chunk, '' ORDER BY ordinal) AS together, array_agg(ordinal ORDER BY ordinal) = array_agg(i ORDER BY i) AS numbered
	FROM (SELECT *, row_number() OVER (PARTITION BY name, n, o ORDER BY ordinal)::int AS i FROM chunks) x WHERE o = 0 GROUP BY name, n, s) y;
SELECT bool_and(together = s) AS whole_without_overlaps, count(*) FROM (
	SELECT s, string_agg(substr(chunk, coalesce(until - start, 0) + 1), '' ORDER BY ordinal) AS together
	FROM (SELECT *, lag(start + length(chunk)) OVER (PARTITION BY name, n, o ORDER BY ordinal) AS until FROM chunks) x GROUP BY name, n, o, s) y;
SELECT bool_and(chunk <> '' AND substr(s, start, length(chunk)) = chunk) AS pieces,
	bool_and(llama_count_tokens(chunk) <= n) AS within_limit, max(n) FILTER (WHERE llama_count_tokens(chunk) = n) AS reached
FROM chunks;
-- an overlap is what the chunk before ends with, of at most so many tokens; each chunk brings something new
SELECT bool_and(start > before AND start <= until AND start + length(chunk) > until) AS goes_on,
	bool_and(llama_count_tokens(left(chunk, until - start)) <= o) AS within_limit,
	bool_or(start < until) FILTER (WHERE o > 0) AS some, bool_and(start = until) FILTER (WHERE o = 0) AS none
FROM (SELECT *, lag(start) OVER w AS before, lag(start + length(chunk)) OVER w AS until FROM chunks WINDOW w AS (PARTITION BY name, n, o ORDER BY ordinal)) x
WHERE ordinal > 1;
-- a text that fits is one chunk; of nothing there is none
SELECT bool_and(count = (s <> '')::int) AS one FROM (SELECT s, (SELECT count(*) FROM llama_chunk(s, greatest(llama_count_tokens(s), 4))) FROM samples) x;
SELECT count(*) FROM llama_chunk('', 10);

-- where it is cut: after paragraphs before sentences and lines before words, in
-- the chunk's last half; || stands where the limit is
CREATE FUNCTION pg_temp.cut(s text, overlap int DEFAULT 0) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT replace(quote_literal(chunk), E'\n', '~') FROM llama_chunk(replace(s, '||', ''), llama_count_tokens(split_part(s, '||', 1)), overlap) $$;
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.cut(E'One two three. Four five six.\n\nSeven. Eight nine|| ten.');
SELECT pg_temp.cut('One two three four. Five six seven|| eight nine ten');
SELECT pg_temp.cut(E'one two three four\nfive six seven|| eight nine ten');
SELECT pg_temp.cut('one two three four five si||x seven eight nine ten');
SELECT pg_temp.cut('onetwothreefour||fivesix');
SELECT pg_temp.cut('He said "Go away." Then he|| went away');
SELECT pg_temp.cut('吾輩は猫である。「名前。」はまだ||無い。');
SELECT pg_temp.cut('Only. the last half is looked|| at, no sentence before');
SELECT pg_temp.cut(E'Spaces stay with the word before    \n   th||em all');
SELECT pg_temp.cut('One two three. Four five six. Seven|| eight nine. Ten eleven', 10);
\pset format aligned
\pset tuples_only off

-- arguments
SELECT count(*) FROM llama_chunk(NULL, 10, model => 'none');
SELECT count(*) FROM llama_chunk('x', NULL, model => 'none');
SELECT count(*) FROM llama_chunk('x y', 10, NULL, NULL);
\set VERBOSITY terse
SELECT * FROM llama_chunk('x', 3);
SELECT * FROM llama_chunk('x', 1048577);
SELECT * FROM llama_chunk('x', 10, -1);
SELECT * FROM llama_chunk('x', 10, 6);
SELECT * FROM llama_chunk('x', 10, model => 'none');
\set VERBOSITY default
SELECT pg_typeof(ordinal), pg_typeof(chunk), pg_typeof(start) FROM llama_chunk('x', 10);

-- the work is in proportion to the text, and can be interrupted
SELECT count(*) > 1000 AS words FROM llama_chunk(repeat('many words ', 50000), 100);
SELECT count(*) > 1000 AS one_word FROM llama_chunk(repeat('x', 300000), 100);
SET statement_timeout = '50ms';
SELECT count(*) FROM llama_chunk(repeat('many words ', 5000000), 10);
RESET statement_timeout;
