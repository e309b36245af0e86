/*
 * quality_measure.sql
 *
 * What the model is worth on held-out packages; psql runs it for quality, with
 * the variables task (of the classification) and parallel (rows at once).
 *
 * The rows are spread over parallel workers, so that more than one process makes
 * prompts.  PostgreSQL hands out tables by the page: the low fillfactor gives
 * about one row to each.
 *
 * Nearest neighbours are found in SQL too.  For vectors of length 1 the largest
 * cosine is the smallest Euclidean distance, which contrib's cube computes in
 * C, for up to 100 dimensions: a vector is cut into parts of that width, and
 * the squares of the parts' distances are summed.
 */
\set ON_ERROR_STOP on
SET max_parallel_workers_per_gather = :parallel;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET jit = off;
SET work_mem = '256MB';
CREATE EXTENSION llama3;
CREATE EXTENSION cube;

CREATE TABLE heldout (name text, source text, section text, frequent boolean, summary text,
	description text, text text) WITH (fillfactor = 10, parallel_workers = :parallel);
\copy heldout from 'heldout.tsv'
CREATE TABLE question (name text, condition text, wording text, holds boolean, picked boolean,
	text text) WITH (fillfactor = 10, parallel_workers = :parallel);
\copy question from 'questions.tsv'

-- A figure of which there is no number, such as the recall of a section that
-- has no packages, is NULL.
CREATE TABLE result (ordinal serial, metric text PRIMARY KEY, value double precision, n bigint);

-- The first packages of a kind are those with the smallest MD5 of the name.
CREATE TABLE sorted WITH (fillfactor = 10, parallel_workers = :parallel) AS
	SELECT * FROM heldout WHERE frequent;
CREATE TABLE plain WITH (fillfactor = 10, parallel_workers = :parallel) AS
	SELECT * FROM heldout ORDER BY md5(name) LIMIT 1000;
CREATE TABLE described WITH (fillfactor = 10, parallel_workers = :parallel) AS
	SELECT * FROM heldout ORDER BY md5(name) LIMIT 100;
ANALYZE;

SELECT array_agg(section ORDER BY section) AS labels, array_agg(section ORDER BY section DESC) AS reversed
	FROM (SELECT DISTINCT section FROM sorted) AS s \gset

-- ---------------------------------------------------------------- sections
SELECT 'section classification of ' || count(*) || ' packages, with two orders of labels' AS doing FROM sorted \gset
\echo :doing
CREATE TABLE section_answer AS
	SELECT name, section,
		llama_classify(text, :'labels', task => :'task') AS label,
		llama_classify_prob(text, :'labels', task => :'task') AS probabilities,
		llama_classify(text, :'reversed', task => :'task') AS reversed
	FROM sorted;

CREATE VIEW section_judged AS
	SELECT *, label = section AS correct,
		probabilities[array_position(:'labels', section)] AS p_truth,
		(SELECT max(p) FROM unnest(probabilities) AS p) AS confidence
	FROM section_answer;

INSERT INTO result (metric, value, n)
	SELECT 'section.accuracy', avg(correct::int), count(*) FROM section_judged;
INSERT INTO result (metric, value, n)
	SELECT 'section.majority', max(n) / sum(n), sum(n)
	FROM (SELECT count(*) AS n FROM sorted GROUP BY section) AS s;
INSERT INTO result (metric, value, n)
	SELECT 'section.log_loss', avg(-ln(greatest(p_truth, 1e-300))), count(*) FROM section_judged;
-- In ten bins of equal width: how far is a bin's accuracy from its mean confidence?
INSERT INTO result (metric, value, n)
	SELECT 'section.calibration_error', sum(n * abs(accuracy - confidence)) / sum(n), sum(n)
	FROM (SELECT count(*) AS n, avg(correct::int) AS accuracy, avg(confidence) AS confidence
		FROM section_judged GROUP BY least(width_bucket(confidence, 0, 1, 10), 10)) AS bins;
INSERT INTO result (metric, value, n)
	SELECT 'section.mean_confidence', avg(confidence), count(*) FROM section_judged;
INSERT INTO result (metric, value, n)
	SELECT 'section.accuracy_reversed', avg((reversed = section)::int), count(*) FROM section_judged;
INSERT INTO result (metric, value, n)
	SELECT 'section.same_reversed', avg((reversed = label)::int), count(*) FROM section_judged;
INSERT INTO result (metric, value, n)
	SELECT 'section.recall.' || section, avg(correct::int), count(*)
	FROM section_judged GROUP BY section ORDER BY section;
INSERT INTO result (metric, value, n)
	SELECT 'section.precision.' || s.section, avg((a.label = a.section)::int), count(a.label)
	FROM (SELECT DISTINCT section FROM sorted) AS s LEFT JOIN section_answer AS a ON a.label = s.section
	GROUP BY s.section ORDER BY s.section;
-- The truth, and what was answered in its place.
INSERT INTO result (metric, value, n)
	SELECT 'section.confused.' || section || '.' || label, count(*), sum(count(*)) OVER (PARTITION BY section)
	FROM section_answer WHERE label <> section GROUP BY section, label
	ORDER BY count(*) DESC, section, label LIMIT 8;

-- ---------------------------------------------------------------- yes or no
SELECT count(*) || ' yes-or-no questions' AS doing FROM question \gset
\echo :doing
CREATE TABLE question_answer AS
	SELECT name, condition, holds, picked, llama_filter(text, wording) AS answer FROM question;

INSERT INTO result (metric, value, n)
	SELECT 'filter.accuracy', avg(accuracy), sum(n)
	FROM (SELECT avg((answer = holds)::int) AS accuracy, count(*) AS n
		FROM question_answer WHERE picked GROUP BY condition) AS c;
INSERT INTO result (metric, value, n)
	SELECT format('filter.%s.%s', kind, condition), value, n
	FROM (SELECT condition,
			avg((answer = holds)::int) FILTER (WHERE picked) AS accuracy,
			count(*) FILTER (WHERE picked) AS n_picked,
			avg((answer = holds)::int) AS accuracy_all,
			(avg(answer::int) FILTER (WHERE holds) + 1 - avg(answer::int) FILTER (WHERE NOT holds)) / 2 AS balanced_all,
			greatest(avg(holds::int), 1 - avg(holds::int)) AS majority_all,
			count(*) AS n_all
		FROM question_answer GROUP BY condition) AS c,
		LATERAL (VALUES (1, 'accuracy', accuracy, n_picked), (2, 'accuracy_all', accuracy_all, n_all),
			(3, 'balanced_all', balanced_all, n_all), (4, 'majority_all', majority_all, n_all))
			AS v (ordinal, kind, value, n)
	ORDER BY condition, ordinal;

-- ---------------------------------------------------------------- neighbours
SELECT 'embeddings of ' || count(*) || ' packages, and the nearest neighbours of each' AS doing FROM sorted \gset
\echo :doing
CREATE TABLE embedding AS
	SELECT name, source, section, llama_embed(text) AS v FROM sorted;

SELECT string_agg(format('cube(v[%s:%s]::float8[]) AS part_%s', 100 * i - 99, 100 * i, i), ', ') AS parts,
	string_agg(format('(a.part_%1$s <-> b.part_%1$s) ^ 2', i), ' + ') AS distance
FROM generate_series(1, (SELECT (max(cardinality(v)) + 99) / 100 FROM embedding)) AS i \gset
CREATE TABLE point WITH (fillfactor = 10, parallel_workers = :parallel) AS
	SELECT row_number() OVER (ORDER BY name) AS id, name, source, section, :parts FROM embedding;
ANALYZE point;
-- Each one's smallest [distance, id], in one pass over all pairs.  The planner
-- would have every parallel worker make that pass.
SET max_parallel_workers_per_gather = 0;
CREATE TABLE nearest AS
	SELECT p.section, p1.section AS other, p2.section AS other_source
	FROM (SELECT id, min(ARRAY[distance, other]) FILTER (WHERE id <> other) AS any_other,
			min(ARRAY[distance, other]) FILTER (WHERE source <> b_source) AS other_source
		FROM (SELECT a.id, b.id AS other, a.source, b.source AS b_source, :distance AS distance
			FROM point AS a CROSS JOIN point AS b) AS pairs
		GROUP BY id) AS n
		JOIN point AS p USING (id)
		JOIN point AS p1 ON p1.id = n.any_other[2]
		JOIN point AS p2 ON p2.id = n.other_source[2];
SET max_parallel_workers_per_gather = :parallel;

INSERT INTO result (metric, value, n)
	SELECT 'neighbour.same_section', avg((section = other)::int), count(*) FROM nearest;
INSERT INTO result (metric, value, n)
	SELECT 'neighbour.same_section_other_source', avg((section = other_source)::int), count(*) FROM nearest;
INSERT INTO result (metric, value, n)
	SELECT 'neighbour.chance', sum(n * (n - 1)) / (sum(n) * (sum(n) - 1)), sum(n)
	FROM (SELECT count(*) AS n FROM sorted GROUP BY section) AS s;

-- For comparison the cosine of TF-IDF weights over PostgreSQL's English
-- lexemes; those in more than a tenth of the texts count as stop words.
\echo the same by TF-IDF, for comparison
CREATE TEMP TABLE lexeme AS
	SELECT name, source, section, lexeme, 1 + ln(cardinality(positions)) AS tf
	FROM sorted, unnest(to_tsvector('english', text));
CREATE TEMP TABLE weight AS
	SELECT name, source, section, lexeme, w / sqrt(sum(w * w) OVER (PARTITION BY name)) AS w
	FROM (SELECT l.*, tf * ln((SELECT count(*) FROM sorted)::float8 / df) AS w
		FROM lexeme AS l JOIN (SELECT lexeme, count(*) AS df FROM lexeme GROUP BY lexeme) AS f USING (lexeme)
		WHERE df > 1 AND df <= (SELECT count(*) / 10 FROM sorted)) AS weighted;
ANALYZE weight;
CREATE TEMP TABLE cosine AS
	SELECT a.name, a.source, b.name AS other, b.source AS other_source,
		min(a.section) = min(b.section) AS same, sum(a.w * b.w) AS cosine
	FROM weight AS a JOIN weight AS b ON a.lexeme = b.lexeme AND a.name <> b.name
	GROUP BY a.name, a.source, b.name, b.source;
-- A text without a word in common with any other has no neighbour, and counts as wrong.
INSERT INTO result (metric, value, n)
	SELECT 'neighbour.tf_idf', count(*) FILTER (WHERE same) / (SELECT count(*)::float8 FROM sorted),
		(SELECT count(*) FROM sorted)
	FROM (SELECT DISTINCT ON (name) same FROM cosine ORDER BY name, cosine DESC, other) AS c;
INSERT INTO result (metric, value, n)
	SELECT 'neighbour.tf_idf_other_source', count(*) FILTER (WHERE same) / (SELECT count(*)::float8 FROM sorted),
		(SELECT count(*) FROM sorted)
	FROM (SELECT DISTINCT ON (name) same FROM cosine WHERE source <> other_source
		ORDER BY name, cosine DESC, other) AS c;

-- ---------------------------------------------------------------- perplexity
SELECT 'perplexity of ' || count(*) || ' texts' AS doing FROM plain \gset
\echo :doing
CREATE TABLE likelihood AS
	SELECT name, octet_length(text) AS n_bytes, l.n, l.logprob
	FROM plain CROSS JOIN LATERAL (SELECT count(*) AS n, sum(logprob) AS logprob
		FROM llama_logprobs('', text)) AS l;
INSERT INTO result (metric, value, n)
	SELECT 'perplexity.per_token', exp(-sum(logprob) / sum(n)), sum(n) FROM likelihood;
INSERT INTO result (metric, value, n)
	SELECT 'perplexity.per_byte', exp(-sum(logprob) / sum(n_bytes)), sum(n_bytes) FROM likelihood;
INSERT INTO result (metric, value, n)
	SELECT 'perplexity.bits_per_byte', -sum(logprob) / ln(2) / sum(n_bytes), sum(n_bytes) FROM likelihood;

-- ---------------------------------------------------------------- generation
SELECT count(*) || ' generated descriptions' AS doing FROM described \gset
\echo :doing
CREATE TABLE description AS
	SELECT name, summary, description AS truth,
		llama_generate(format('Write a description for %s: %s', name, summary)) AS answer
	FROM described;

-- An answer that was cut has max_tokens tokens.  (Its text is tokenised again
-- here, which gives fewer where the model did not write the shortest way.)
INSERT INTO result (metric, value, n)
	SELECT 'generation.ended', avg((llama_count_tokens(answer) < current_setting('llama3.max_tokens')::int - 8)::int),
		count(*) FROM description;
INSERT INTO result (metric, value, n)
	SELECT 'generation.tokens', avg(llama_count_tokens(answer)), count(*) FROM description;
-- Of a text's triples of words in succession, how many are there once?
CREATE FUNCTION distinct_triples(t text) RETURNS float8 LANGUAGE sql AS $$
	SELECT count(DISTINCT triple)::float8 / nullif(count(triple), 0)
	FROM (SELECT string_agg(lower(word), ' ') OVER (ORDER BY i ROWS BETWEEN CURRENT ROW AND 2 FOLLOWING) AS triple,
			i + 2 <= count(*) OVER () AS whole
		FROM regexp_split_to_table(t, '\s+') WITH ORDINALITY AS words (word, i)) AS triples
	WHERE whole $$;
INSERT INTO result (metric, value, n)
	SELECT 'generation.distinct_triples', avg(distinct_triples(answer)), count(*) FROM description;
INSERT INTO result (metric, value, n)
	SELECT 'generation.distinct_triples_truth', avg(distinct_triples(truth)), count(*) FROM description;
