-- The model that comes with llama3 has learnt something: here answers are
-- asserted, not only that some came back.  No text or label is close to a tie.
SELECT llama_load_model('$sharedir/llama3/llama3-demo.gguf', 'demo');
SET llama3.default_model = 'demo';
SELECT chat_form, parameters, context, note FROM llama_models WHERE name = 'demo';

CREATE TABLE package (id int, about text, section text, is_library bool);
INSERT INTO package VALUES
	(1, E'libcolourful-perl: module to mix colours\nThis Perl module converts between colour spaces.', 'perl', true),
	(2, E'python3-colourful: mix colours in Python 3\nThis package contains a Python 3 module that converts between colour spaces.', 'python', true),
	(3, E'librust-colourful-dev: Mix colours - Rust source code\nThis package contains the source for the Rust colourful crate, packaged by debcargo for use with cargo and dh-cargo.', 'rust', true),
	(4, E'golang-github-acme-colourful-dev: mix colours (library)\nThis package provides a Go library that converts between colour spaces.', 'golang', true),
	(5, E'libghc-colourful-dev: mix colours\nThis package provides a library for the Haskell programming language. See http://www.haskell.org/ for more information on Haskell.', 'haskell', true),
	(6, E'node-colourful: mix colours - Node.js module\nThis module converts between colour spaces. Node.js is an event-based server-side JavaScript engine.', 'javascript', true),
	(7, E'colourful-doc: documentation of colourful\nThis package contains the documentation of colourful in HTML.', 'doc', false),
	(8, NULL, NULL, NULL);

-- sections
SELECT id, section, llama_classify(about, labels, task => 'Which section of the Debian archive is this package in?') AS answer
FROM package, (SELECT array_agg(DISTINCT section) FILTER (WHERE section IS NOT NULL) AS labels FROM package) AS l ORDER BY id;

-- the probabilities say the same
SELECT id, p[array_position(labels, section)] > 0.5 AS sure, round(sum(v)::numeric, 12) AS sum
FROM package, (SELECT array_agg(DISTINCT section) FILTER (WHERE section IS NOT NULL) AS labels FROM package) AS l,
	llama_classify_prob(about, labels, task => 'Which section of the Debian archive is this package in?') AS p, unnest(p) AS v
GROUP BY 1, 2 ORDER BY 1;

-- conditions
SELECT about, llama_filter(about, 'The package is a game.') AS game,
	llama_filter(about, 'The package is a library.') AS library
FROM (VALUES
	(1, E'tetronimo: falling blocks puzzle game\nA game in which blocks of four squares fall. Complete rows vanish and give points, and the game gets faster.'),
	(2, E'libcolour2: library to mix colours - shared library\nThis package contains the shared library that converts between colour spaces.'))
	AS v (id, about) ORDER BY id;

-- order of similarity
WITH e AS (SELECT id, llama_embed(about) AS v FROM (VALUES
	(1, 'arcade game with space ships'), (2, 'puzzle game with falling blocks'),
	(3, 'Haskell library for parsing; documentation'), (4, 'Haskell library for sorting; documentation')) AS t (id, about)),
	pair AS (SELECT a.id AS a, b.id AS b, (SELECT sum(x * y) FROM unnest(a.v, b.v) AS u (x, y)) AS cosine FROM e a JOIN e b ON a.id < b.id)
SELECT (SELECT min(cosine) FROM pair WHERE (a, b) IN ((1, 2), (3, 4))) >
	(SELECT max(cosine) FROM pair WHERE (a, b) NOT IN ((1, 2), (3, 4))) AS likes_are_nearer;
SELECT llama_similarity('arcade game with space ships', 'puzzle game with falling blocks') >
	llama_similarity('arcade game with space ships', 'Haskell library for sorting; documentation') AS likes_are_nearer;

-- text: ends by itself, and is about the thing
SELECT llama_generate('What is PostgreSQL?') ~ 'database' AS about_databases;
SELECT llama_generate('Write a description for libcolourful-perl: module to mix colours') ~* 'perl|module' AS about_perl;

-- it knows text of its kind better than other text
SELECT avg(a.logprob) > avg(b.logprob) + 1 AS knows_packages
FROM llama_logprobs('This package contains the', ' shared library.') AS a,
	llama_logprobs('Colourless green ideas', ' sleep furiously tonight') AS b;

RESET llama3.default_model;
DROP TABLE package;
SELECT llama_unload_model('demo');
