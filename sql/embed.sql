-- Embeddings: unit length, fewer dimensions, poolings, similarity.
CREATE FUNCTION pg_temp.norm(v real[]) RETURNS float8 LANGUAGE sql AS 'SELECT sqrt(sum(x::float8 * x)) FROM unnest(v) x';
CREATE FUNCTION pg_temp.cosine(a real[], b real[]) RETURNS float8 LANGUAGE sql AS
	'SELECT sum(x::float8 * y) / (pg_temp.norm(a) * pg_temp.norm(b)) FROM unnest(a, b) t(x, y)';
CREATE TEMP TABLE texts AS SELECT * FROM unnest(ARRAY['', 'a', 'The café in the old town opens at 7:30.', repeat('long text ', 50), '日本語']) t;

SELECT bool_and(cardinality(llama_embed(t)) = 256) AS all_dimensions, bool_and(abs(pg_temp.norm(llama_embed(t)) - 1) < 1e-5) AS unit,
	bool_and(llama_embed(t) = llama_embed(t)) AS same_twice, count(DISTINCT llama_embed(t)) AS different FROM texts;
SELECT pg_typeof(llama_embed('x')), array_ndims(llama_embed('x')), array_lower(llama_embed('x'), 1);

-- fewer dimensions: the first ones, of unit length again
SELECT n, cardinality(llama_embed('x', n)) = n AS cut, abs(pg_temp.norm(llama_embed('x', n)) - 1) < 1e-5 AS unit,
	abs(pg_temp.cosine(llama_embed('x', n), (llama_embed('x'))[1:n]) - 1) < 1e-6 AS same_direction
FROM unnest(ARRAY[1, 2, 64, 255, 256]) n;
SELECT llama_embed('x', 256) = llama_embed('x') AS all_is_default, llama_embed('x', NULL, NULL, NULL) = llama_embed('x') AS null_is_default;

-- poolings
SELECT llama_embed('a few words', pooling => 'mean') = llama_embed('a few words') AS mean_is_default,
	llama_embed('a few words', pooling => 'last') <> llama_embed('a few words') AS last_differs,
	abs(pg_temp.norm(llama_embed('a few words', pooling => 'last')) - 1) < 1e-5 AS unit;

-- similarity: the embeddings' cosine, symmetric, 1 with itself
SELECT abs(llama_similarity('one text', 'another text') - pg_temp.cosine(llama_embed('one text'), llama_embed('another text'))) < 1e-6 AS cosine,
	llama_similarity('one text', 'another text') = llama_similarity('another text', 'one text') AS symmetric,
	abs(llama_similarity('one text', 'one text') - 1) < 1e-6 AS itself,
	llama_similarity('one text', 'another text') BETWEEN -1 AND 1 AS in_range;

-- a text over the context
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
\set VERBOSITY sqlstate
SELECT llama_embed(repeat('word ', 100000));
SELECT llama_similarity('x', repeat('word ', 100000));
SET llama3.on_error = 'null';
SELECT llama_embed(repeat('word ', 100000)) IS NULL AS embedded;
SELECT llama_similarity('x', repeat('word ', 100000)) IS NULL AS compared;
SELECT llama_similarity(repeat('word ', 100000), 'x') IS NULL AS compared;
SELECT pg_temp.left_behind();
RESET llama3.on_error;
