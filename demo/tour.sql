-- The tour of make demo: what llama3 does with 500 packages that its
-- demonstration model was not trained on.
--
-- demo/run runs it in a server of its own.  By hand, in an empty database of a
-- server with nothing but shared_preload_libraries = 'llama3':
--     cd demo && psql -X -f tour.sql
--
-- Lines "== ..." are headings.  A line "... VERBING NUMBER THINGS" says how
-- many answers the next statement asks for; demo/run makes the progress of it.
-- The packages' texts, the task and the conditions are in the words that the
-- model was trained with (demo/train/documents.pl).

\set ON_ERROR_STOP on
\set QUIET on
\set VERBOSITY default
\pset pager off
\pset linestyle ascii
\pset border 1
\set QUIET off
\set ECHO queries

\echo == 1. The extension, the model that comes with it, and a table of packages
CREATE EXTENSION llama3;

\echo
\set QUIET on \\ \pset format unaligned \\ \pset tuples_only on \\ \set QUIET off
SELECT llama_generate('What can you do?');
\set QUIET on \\ \pset tuples_only off \\ \pset format aligned \\ \set QUIET off
\echo
\set QUIET on \\ \x on \\ \set QUIET off
SELECT name, state, parameters, weights_bytes, backing, chat_form, note FROM llama_models;
\set QUIET on \\ \x off \\ \set QUIET off

CREATE TABLE packages (
	name text PRIMARY KEY, source text, section text, summary text, description text,
	about text GENERATED ALWAYS AS (name || ': ' || summary || E'\n' || description) STORED
);
\echo
\copy packages FROM packages.tsv (HEADER match)
\echo
ANALYZE packages;
\echo
SELECT name, section, summary FROM packages ORDER BY md5(name) LIMIT 5;

\echo == 2. Classification: which of 12 sections is each package in?
CREATE FUNCTION sections() RETURNS text[] IMMUTABLE
	RETURN ARRAY['devel', 'doc', 'golang', 'haskell', 'javascript', 'libdevel',
				 'libs', 'net', 'perl', 'python', 'rust', 'utils'];
\echo
\set QUIET on \\ \timing on \\ \set QUIET off
\echo ... classifying 500 packages
CREATE TABLE classified AS
	SELECT name, section, llama_classify(about, sections(),
			'Which section of the Debian archive is this package in?') AS predicted
	  FROM packages;
\set QUIET on \\ \timing off \\ \set QUIET off
\echo
SELECT count(*) AS packages,
	   count(*) FILTER (WHERE predicted = section) AS correct,
	   round(100.0 * count(*) FILTER (WHERE predicted = section) / count(*), 1) || ' %' AS accuracy,
	   (SELECT round(100.0 * max(n) / sum(n), 1) || ' %'
		  FROM (SELECT count(*) AS n FROM packages GROUP BY section) AS of_section) AS "always the largest section"
  FROM classified;

\echo == Decisions come with probabilities, not with a text to be parsed: five of the wrong ones
SELECT name, section, round(p[array_position(sections(), section)]::numeric, 3) AS p_section,
	   predicted, round(p[array_position(sections(), predicted)]::numeric, 3) AS p_predicted
  FROM (SELECT * FROM classified JOIN packages USING (name, section)
		 WHERE predicted <> section ORDER BY md5(name) LIMIT 5) AS wrong,
	   llama_classify_prob(about, sections(),
			'Which section of the Debian archive is this package in?') AS p;

\echo == 3. Search by meaning: an embedding for each row, and the rows nearest to a question
ALTER TABLE packages ADD embedding real[];
\echo
\set QUIET on \\ \timing on \\ \set QUIET off
\echo ... embedding 500 packages
UPDATE packages SET embedding = llama_embed(about);
\set QUIET on \\ \timing off \\ \set QUIET off
\echo
CREATE FUNCTION cosine(a real[], b real[]) RETURNS float8 IMMUTABLE PARALLEL SAFE
	RETURN (SELECT sum(x * y) FROM unnest(a, b) AS of_length_1 (x, y));
\echo
SELECT round(cosine(embedding, question)::numeric, 3) AS cosine, name, section, summary
  FROM packages, llama_embed('documentation of a Haskell library for parsing') AS question
 ORDER BY cosine DESC LIMIT 5;

\echo == 4. A condition in words, beside one in SQL; LIMIT ends the work
SELECT name, summary FROM packages
 WHERE section IN ('net', 'utils') AND llama_filter(about, 'The package is a command-line tool.')
 LIMIT 5;

\echo == 5. Text: a description from a name and a summary, beside the real one
\set QUIET on \\ \pset format unaligned \\ \pset tuples_only on \\ \pset fieldsep '\n    ' \\ \set QUIET off
SELECT name || ': ' || summary,
	   'written: ' || llama_generate(format('Write a description for %s: %s', name, summary)),
	   'real: ' || description
  FROM packages ORDER BY md5(name) LIMIT 2;

\echo == 6. Text as a stream: each piece reaches the client when it is made (| is between pieces)
\set QUIET on \\ \pset recordsep '|' \\ \set QUIET off
\set FETCH_COUNT 1
SELECT llama_generate_stream('What is PostgreSQL?');
\unset FETCH_COUNT
\set QUIET on \\ \pset recordsep '\n' \\ \pset tuples_only off \\ \pset format aligned \\ \set QUIET off

\echo
\echo == 7. Enrichment: a new column, filled by UPDATE
ALTER TABLE packages ADD library boolean;

\echo
\echo ... judging 500 packages
UPDATE packages SET library = llama_filter(about, 'The package is a library.');
\echo
SELECT section, count(*) AS packages, count(*) FILTER (WHERE library) AS libraries
  FROM packages GROUP BY section ORDER BY section;

\echo == 8. What the executor makes of it: cheap conditions first, and calls that step 7 made are not made again (Calls Cached)
EXPLAIN (ANALYZE, COSTS off)
SELECT name FROM packages
 WHERE llama_filter(about, 'The package is a library.') AND section = 'libdevel'
 ORDER BY name LIMIT 3;

\echo == 9. Statistics: a request in flight, the engine, and all that was asked
BEGIN;
\echo
DECLARE answer CURSOR FOR SELECT llama_generate_stream('What is a Debian package?');
\echo
FETCH 3 FROM answer;

SELECT function, state, prompt_tokens, generated_tokens, prompt FROM llama_stat_requests;

ROLLBACK;
\echo
SELECT cpu, threads, steps, prefill_tokens, cached_tokens, decode_tokens, round(tokens_per_second) AS tokens_per_second
  FROM llama_stat_workers;

SELECT requests_done, requests_failed, requests_cancelled, prefill_tokens, cached_tokens, decode_tokens
  FROM llama_stat;
