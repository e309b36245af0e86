-- Databases in other encodings: what goes in is converted, what comes out is
-- valid there, and contains no NUL.
SELECT getdatabaseencoding();
SET llama3.max_tokens = 64;
-- every token's text is valid, alone and side by side
SELECT count(*) = 512 AS all_tokens, bool_and(octet_length(convert_to(t, 'UTF8')) >= 0) AS valid,
	bool_and(position('\x00'::bytea IN convert_to(t, 'UTF8')) = 0) AS no_nul
FROM (SELECT llama_detokenize(ARRAY[i]) AS t FROM generate_series(0, 511) i) s;
SELECT bool_and(octet_length(convert_to(llama_detokenize(ARRAY[i, j]), 'UTF8')) >= 0) AS valid
FROM generate_series(0, 255, 3) i, generate_series(0, 255, 3) j;
-- half a character is U+FFFD in detokenize, and held back in answers
SELECT llama_detokenize((llama_tokenize('🙂'))[1:1]) = U&'\FFFD' OR cardinality(llama_tokenize('🙂')) = 1 AS half;
SELECT bool_and(octet_length(convert_to(a, 'UTF8')) >= 0 AND position('\x00'::bytea IN convert_to(a, 'UTF8')) = 0) AS valid
FROM (SELECT llama_complete('日本', max_tokens => i, temperature => 2, seed => i) AS a FROM generate_series(1, 40) i) s;

CREATE DATABASE llama3_latin1 ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE llama3_ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';

-- what the other databases must give: the same tokens, and of the same answer
-- the characters that LATIN1 has
SELECT llama_tokenize('café crème') AS cafe, llama_tokenize('日本') AS nihon,
	encode(convert_to(regexp_replace(llama_complete('café', max_tokens => 40), U&'[^\0001-\00FF]', '?', 'g'), 'LATIN1'), 'hex') AS latin1,
	encode(convert_to(llama_complete('café', max_tokens => 40), 'UTF8'), 'hex') AS utf8
\gset
\set utf8_db :DBNAME

\c llama3_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION llama3;
SELECT getdatabaseencoding();
SELECT llama_tokenize('café crème') = :'cafe'::int[] AS same_tokens, llama_detokenize(:'cafe') = 'café crème' AS same_text,
	llama_count_tokens('café crème') = cardinality(:'cafe'::int[]) AS same_count,
	llama_truncate('éééééééé', 3) = left('éééééééé', length(llama_truncate('éééééééé', 3))) AS truncated;
SELECT string_agg(chunk, '') = 'é à ç. ù é à, ç ù' AS chunks, bool_and(substr('é à ç. ù é à, ç ù', start, length(chunk)) = chunk) AS places, count(*) > 1 AS several
FROM llama_chunk('é à ç. ù é à, ç ù', 5);
-- what LATIN1 lacks is a question mark
SELECT llama_detokenize(:'nihon');
SELECT llama_detokenize(:'nihon' || llama_tokenize('é') || :'nihon'::int[] || llama_tokenize('!'));
SELECT count(*) AS all_tokens, bool_and(octet_length(t) >= 0) AS valid, bool_and(position('\x00'::bytea IN convert_to(t, 'LATIN1')) = 0) AS no_nul
FROM (SELECT llama_detokenize(ARRAY[i]) AS t FROM generate_series(0, 511) i) s;
SELECT encode(convert_to(llama_complete('café', max_tokens => 40), 'LATIN1'), 'hex') = :'latin1' AS same_answer;
SELECT llama_classify('é', ARRAY['très', 'peu']) IN ('très', 'peu') AS a_label,
	llama_classify_multi('é', ARRAY['très', 'peu'], threshold => 0) = ARRAY['très', 'peu'] AS labels,
	octet_length(convert_to(llama_translate('é', 'français'), 'LATIN1')) >= 0 AS translated,
	llama_chat('[{"role": "user", "content": "é"}]', max_tokens => 4) = llama_generate('é', max_tokens => 4) AS same_chat;
SELECT string_agg(piece, '') = llama_generate('é', max_tokens => 64, temperature => 2) AS whole
FROM llama_generate_stream('é', max_tokens => 64, temperature => 2) piece;
SELECT bool_and(logprob <= 0) AS scored FROM llama_logprobs('é', 'é à');
\set VERBOSITY terse
SELECT llama_classify('x', ARRAY['é', 'b', 'é']);
\set VERBOSITY default

\c llama3_ascii
SET client_encoding = 'SQL_ASCII';
CREATE EXTENSION llama3;
SELECT getdatabaseencoding();
-- the bytes are taken as they are: UTF-8 means UTF-8
SELECT llama_tokenize('café crème') = :'cafe'::int[] AS same_tokens, llama_detokenize(:'cafe') = 'café crème' AS same_text,
	llama_detokenize(:'nihon') = '日本' AS any_character;
SELECT encode(convert_to(llama_complete('café', max_tokens => 40), 'SQL_ASCII'), 'hex') = :'utf8' AS same_answer;
-- bytes that are no UTF-8 are bytes
SELECT string_agg(chunk, '') = repeat(E'\xff\xc3a\xa9é', 30) AS chunks, count(*) > 9 AS several, bool_and(llama_count_tokens(chunk) <= 7) AS within_limit,
	bool_and(substr(repeat(E'\xff\xc3a\xa9é', 30), start, length(chunk)) = chunk) AS places
FROM llama_chunk(repeat(E'\xff\xc3a\xa9é', 30), 7);
SELECT llama_count_tokens(E'\xff\xfe') > 0 AS counted, llama_detokenize(llama_tokenize(E'a\xff')) = E'a\xef\xbf\xbd' AS replaced,
	llama_generate(E'\xff', max_tokens => 4) IS NOT NULL AS answered, llama_classify(E'\xff', ARRAY[E'\xfe', 'b']) IN (E'\xfe', 'b') AS classified;

\c :utf8_db
DROP DATABASE llama3_latin1;
DROP DATABASE llama3_ascii;
