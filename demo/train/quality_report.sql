/*
 * quality_report.sql
 *
 * The measurements of quality_measure.sql as Markdown, for the model card.
 * psql runs it, printing rows without headers.
 */
\set ON_ERROR_STOP on

CREATE FUNCTION percent(value float8) RETURNS text LANGUAGE sql AS
	$$ SELECT coalesce(round(100 * value::numeric, 1) || ' %', 'none') $$;
CREATE FUNCTION metric(name text) RETURNS float8 LANGUAGE sql AS
	$$ SELECT value FROM result WHERE metric = name $$;
CREATE FUNCTION number_of(name text) RETURNS text LANGUAGE sql AS
	$$ SELECT to_char(n, 'FM999,999,999') FROM result WHERE metric = name $$;
-- A text as a quoted block, in which nothing is markup.
CREATE FUNCTION quoted(t text) RETURNS text LANGUAGE sql AS
	$$ SELECT '> ' || regexp_replace(regexp_replace(t, '([\\`*_<>#|\[\]])', '\\\1', 'g'), '\n', E'  \n> ', 'g') $$;

\echo '| what | figure | cases | for comparison |'
\echo '| --- | ---: | ---: | --- |'
SELECT format('| %s | %s | %s | %s |', what, figure, number_of(of), comparison)
FROM (VALUES
	(1, 'section, one of 12, `llama_classify`', percent(metric('section.accuracy')), 'section.accuracy',
		percent(metric('section.majority')) || ' for always the most frequent'),
	(2, 'the same with the labels in reversed order', percent(metric('section.accuracy_reversed')), 'section.accuracy_reversed',
		percent(metric('section.same_reversed')) || ' of the answers are the same'),
	(3, 'log loss of `llama_classify_prob` (nats)', round(metric('section.log_loss')::numeric, 3)::text, 'section.log_loss',
		round((SELECT -sum(n * ln(n / total)) / sum(n) FROM (SELECT count(*) AS n, sum(count(*)) OVER () AS total
			FROM sorted GROUP BY section) AS s), 3) || ' for the sections'' frequencies'),
	(4, 'expected calibration error, 10 bins', percent(metric('section.calibration_error')), 'section.calibration_error',
		'mean confidence ' || percent(metric('section.mean_confidence'))),
	(5, 'yes or no, `llama_filter`, mean of three conditions', percent(metric('filter.accuracy')), 'filter.accuracy',
		'50 %: as many Yes as No'),
	(6, 'nearest neighbour by `llama_embed` has the section', percent(metric('neighbour.same_section')), 'neighbour.same_section',
		percent(metric('neighbour.tf_idf')) || ' by TF-IDF, ' || percent(metric('neighbour.chance')) || ' by chance'),
	(7, 'the same among packages of other sources', percent(metric('neighbour.same_section_other_source')), 'neighbour.same_section_other_source',
		percent(metric('neighbour.tf_idf_other_source')) || ' by TF-IDF'),
	(8, 'perplexity of plain texts, per token', round(metric('perplexity.per_token')::numeric, 2)::text, 'perplexity.per_token',
		round(metric('perplexity.bits_per_byte')::numeric, 3) || ' bits per byte, perplexity '
		|| round(metric('perplexity.per_byte')::numeric, 3) || ' per byte'),
	(9, 'generated descriptions that end by themselves', percent(metric('generation.ended')), 'generation.ended',
		'mean length ' || round(metric('generation.tokens')::numeric) || ' tokens'),
	(10, 'distinct among their triples of words', percent(metric('generation.distinct_triples')), 'generation.distinct_triples',
		percent(metric('generation.distinct_triples_truth')) || ' in the true descriptions'))
	AS v (ordinal, what, figure, of, comparison)
ORDER BY ordinal;

\echo
\echo '| condition | balanced sample | cases | all known | cases | mean of recalls | always No or always Yes |'
\echo '| --- | ---: | ---: | ---: | ---: | ---: | ---: |'
SELECT format('| %s | %s | %s | %s | %s | %s | %s |', wording,
	percent(metric('filter.accuracy.' || condition)), number_of('filter.accuracy.' || condition),
	percent(metric('filter.accuracy_all.' || condition)), number_of('filter.accuracy_all.' || condition),
	percent(metric('filter.balanced_all.' || condition)), percent(metric('filter.majority_all.' || condition)))
FROM (SELECT DISTINCT condition, wording FROM question) AS q ORDER BY condition;

\echo
\echo '| section | packages | recall | precision |'
\echo '| --- | ---: | ---: | ---: |'
SELECT format('| %s | %s | %s | %s |', section, number_of('section.recall.' || section),
	percent(metric('section.recall.' || section)), percent(metric('section.precision.' || section)))
FROM (SELECT DISTINCT section FROM sorted) AS s ORDER BY section;

\echo
SELECT 'Most often confused: ' || string_agg(format('%s taken for %s (%s of %s)', section, label, n, total),
	', ' ORDER BY n DESC, section, label) || '.'
FROM (SELECT a.section, a.label, count(*) AS n,
		(SELECT count(*) FROM sorted AS s WHERE s.section = a.section) AS total
	FROM section_answer AS a WHERE label <> section GROUP BY section, label
	ORDER BY count(*) DESC, section, label LIMIT 8) AS c;

\echo
\echo '### Ten generated descriptions'
\echo
\echo 'Not selected: the first ten packages by `md5(name)`, asked `Write a description for NAME: SUMMARY`, with default'
\echo 'options.'
SELECT format(E'\n**%s**: %s\n\nThe model:\n\n%s\n\nThe maintainer:\n\n%s', name, summary, quoted(answer),
	quoted(CASE WHEN length(truth) > 400 THEN left(truth, 400) || ' ...' ELSE truth END))
FROM description ORDER BY md5(name) LIMIT 10;
