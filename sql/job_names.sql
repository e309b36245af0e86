-- Jobs take no name of others for one of their own: columns, tables and types
-- that are named as what their statements name, and functions and operators that
-- others have put beside theirs.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE SCHEMA regress_job_names;
SET search_path = regress_job_names, public;
DELETE FROM llama_jobs;

-- a column of the key that is named as an alias
CREATE TABLE kv (k int, a int, v int, PRIMARY KEY (k, a));
INSERT INTO kv SELECT i, 1000 - i FROM generate_series(1, 1000) i;
CALL llama_enrich('kv', 'v = k', batch_rows => 10);
SELECT count(*), count(v), bool_and(v = k) AS right FROM kv;
CREATE TABLE e (e int, s int, v int, "full" int, PRIMARY KEY (s, e));
INSERT INTO e SELECT i, -i FROM generate_series(1, 50) i;
CALL llama_enrich('e', '"full" = e.v, v = e + s', 'e.e IS NOT NULL', batch_rows => 4);
CALL llama_enrich('e', '"full" = e.v, v = e + s', 'e.e IS NOT NULL', batch_rows => 4);
SELECT count(*), count(v), count("full") FROM e;
CREATE TABLE s (e int, k int, ctid_ int, v int);
INSERT INTO s SELECT i, -i FROM generate_series(1, 50) i;
CALL llama_enrich('s', 'v = s.k', 's.e > 0', batch_rows => 4);
SELECT count(*), count(v), bool_and(v = k) AS right FROM s;
CREATE TABLE done (done int PRIMARY KEY, v int);
INSERT INTO done SELECT generate_series(1, 50);
CALL llama_enrich('done', 'v = (SELECT count(*) FROM done d WHERE d.done <= done.done)', batch_rows => 4);
SELECT count(*), count(v) FROM done;
CREATE TABLE "e.v $1" ("k$1" int, gone int, "$2" int, v int, PRIMARY KEY ("$2", "k$1"));
ALTER TABLE "e.v $1" DROP COLUMN gone;
INSERT INTO "e.v $1" SELECT i, -i FROM generate_series(1, 50) i;
CALL llama_enrich('"e.v $1"', 'v = "k$1"', batch_rows => 4);
SELECT count(*), count(v) FROM "e.v $1";

-- keys of types whose order is their own
CREATE COLLATION loosely (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION backwards (provider = icu, locale = 'und-u-kf-upper');
CREATE DOMAIN word AS varchar COLLATE "C" CHECK (value <> '');
CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad');
CREATE TABLE words (w word COLLATE backwards, l text COLLATE loosely, m mood, c char(5), n name, v int, PRIMARY KEY (m, w, l, c, n));
INSERT INTO words SELECT chr(64 + i % 9) || chr(96 + i % 7), 'Aa' || i, (ARRAY['sad', 'ok', 'glad'])[1 + i % 3]::mood, i::text, i::text
FROM generate_series(1, 60) i;
CALL llama_enrich('words', 'v = length(w)', batch_rows => 4);
SELECT count(*), count(v) FROM words;
-- a type with an order of its own, which is not in the search path
CREATE SCHEMA regress_job_types;
CREATE TYPE regress_job_types.down;
CREATE FUNCTION regress_job_types.down_in(cstring) RETURNS regress_job_types.down LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION regress_job_types.down_out(regress_job_types.down) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE regress_job_types.down (INPUT = regress_job_types.down_in, OUTPUT = regress_job_types.down_out, LIKE = int4);
CREATE CAST (regress_job_types.down AS int4) WITHOUT FUNCTION AS IMPLICIT;
CREATE FUNCTION regress_job_types.lt(regress_job_types.down, regress_job_types.down) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4gt';
CREATE FUNCTION regress_job_types.le(regress_job_types.down, regress_job_types.down) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4ge';
CREATE FUNCTION regress_job_types.eq(regress_job_types.down, regress_job_types.down) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4eq';
CREATE FUNCTION regress_job_types.ge(regress_job_types.down, regress_job_types.down) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4le';
CREATE FUNCTION regress_job_types.gt(regress_job_types.down, regress_job_types.down) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4lt';
CREATE FUNCTION regress_job_types.cmp(regress_job_types.down, regress_job_types.down) RETURNS int LANGUAGE sql IMMUTABLE STRICT RETURN btint4cmp($2::int4, $1::int4);
CREATE OPERATOR regress_job_types.< (LEFTARG = regress_job_types.down, RIGHTARG = regress_job_types.down, FUNCTION = regress_job_types.lt);
CREATE OPERATOR regress_job_types.<= (LEFTARG = regress_job_types.down, RIGHTARG = regress_job_types.down, FUNCTION = regress_job_types.le);
CREATE OPERATOR regress_job_types.= (LEFTARG = regress_job_types.down, RIGHTARG = regress_job_types.down, FUNCTION = regress_job_types.eq);
CREATE OPERATOR regress_job_types.>= (LEFTARG = regress_job_types.down, RIGHTARG = regress_job_types.down, FUNCTION = regress_job_types.ge);
CREATE OPERATOR regress_job_types.> (LEFTARG = regress_job_types.down, RIGHTARG = regress_job_types.down, FUNCTION = regress_job_types.gt);
CREATE OPERATOR CLASS regress_job_types.down_ops DEFAULT FOR TYPE regress_job_types.down USING btree AS
	OPERATOR 1 regress_job_types.<, OPERATOR 2 regress_job_types.<=, OPERATOR 3 regress_job_types.=,
	OPERATOR 4 regress_job_types.>=, OPERATOR 5 regress_job_types.>, FUNCTION 1 regress_job_types.cmp(regress_job_types.down, regress_job_types.down);
CREATE TABLE downwards (id regress_job_types.down PRIMARY KEY, v int);
INSERT INTO downwards SELECT i::text::regress_job_types.down FROM generate_series(1, 50) i;
CALL llama_enrich('downwards', 'v = 1', batch_rows => 4);
SELECT count(*), count(v) FROM downwards;
-- beside another, whose operators are elsewhere
CREATE TABLE mixed (id regress_job_types.down, t text, v int, PRIMARY KEY (id, t));
INSERT INTO mixed SELECT (i / 10)::text::regress_job_types.down, i::text FROM generate_series(1, 50) i;
CALL llama_enrich('mixed', 'v = 1', batch_rows => 4);
SELECT count(*), count(v) FROM mixed;
-- domains over what cannot be written down as a key
CREATE DOMAIN document AS jsonb;
CREATE TYPE pair AS (a int, b int);
CREATE DOMAIN couple AS pair;
CREATE TABLE documents (d document PRIMARY KEY, v int);
INSERT INTO documents SELECT to_jsonb(i::text) FROM generate_series(1, 20) i;
CALL llama_enrich('documents', 'v = 1', batch_rows => 4);
SELECT count(*), count(v) FROM documents;
CREATE TABLE couples (c couple PRIMARY KEY, v int);
INSERT INTO couples SELECT ROW(i, NULL)::pair::couple FROM generate_series(1, 20) i;
CALL llama_enrich('couples', 'v = 1', batch_rows => 4);
SELECT count(*), count(v) FROM couples;
-- floating-point keys when not all of their digits are written
CREATE TABLE floats (x float8 PRIMARY KEY, v int);
INSERT INTO floats SELECT 1 / i::float8 FROM generate_series(1, 20) i;
SET extra_float_digits = -3;
CALL llama_enrich('floats', 'v = 1', batch_rows => 4);
RESET extra_float_digits;
SELECT count(*), count(v) FROM floats;

-- Others may create in the extension's schema, which is in everybody's search
-- path: overloads of internal functions that would fit a careless call better, and
-- operators that would fit better than the server's own.
CREATE FUNCTION make_traps() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
	home regnamespace := (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'llama3');
	command text;
BEGIN
	FOR command IN
		SELECT format('CREATE %s %s.%I(%s) %s LANGUAGE plpgsql AS $b$ BEGIN RAISE ''hijacked''; END $b$',
			CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, home, p.proname,
			(SELECT string_agg(CASE o WHEN n THEN y ELSE format_type(t, NULL) END, ', ' ORDER BY o)
				FROM unnest(p.proargtypes) WITH ORDINALITY a(t, o)),
			CASE p.prokind WHEN 'p' THEN '' ELSE 'RETURNS void' END)
		FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY a(x, n),
			unnest(CASE format_type(x, NULL)
				WHEN 'bigint' THEN '{int,smallint,numeric}' WHEN 'integer' THEN '{smallint,bigint}'
				WHEN 'text' THEN '{varchar,name}' WHEN 'jsonb' THEN '{json,text}' WHEN 'regclass' THEN '{oid,bigint,text}'
				WHEN 'double precision' THEN '{real,numeric,int}' WHEN 'boolean' THEN '{text,int}' ELSE '{}' END::text[]) y
		WHERE p.pronamespace = home AND p.proname LIKE '\_llama\_%' AND p.proname NOT LIKE '\_llama\_sync%'
	LOOP
		EXECUTE command;
	END LOOP;
	FOR command IN
		SELECT format('CREATE FUNCTION %s.hijack(%s, %s) RETURNS boolean LANGUAGE plpgsql AS $b$ BEGIN RAISE ''hijacked''; END $b$',
			home, l, r)
		FROM unnest('{int,bigint,float8,numeric,text,varchar,name,jsonb,json,regclass,regrole,oid,tid,xid,boolean,text[],timestamptz}'::text[]) l,
			unnest('{int,bigint,float8,numeric,text,varchar,name,jsonb,json,regclass,regrole,oid,tid,xid,boolean,text[],timestamptz}'::text[]) r
	LOOP
		EXECUTE command;
	END LOOP;
	FOR command IN
		SELECT format('CREATE OPERATOR %s.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %s.hijack)', home, o,
			p.proargtypes[0]::regtype, p.proargtypes[1]::regtype, home)
		FROM pg_proc p, unnest('{=,<>,<,<=,>,>=,+,-,*,/,||,->,->>,~,~~,@>,?}'::text[]) o
		WHERE p.pronamespace = home AND p.proname = 'hijack'
			AND NOT EXISTS (SELECT FROM pg_operator WHERE oprname = o AND oprnamespace = 'pg_catalog'::regnamespace
				AND oprleft = p.proargtypes[0] AND oprright = p.proargtypes[1])
	LOOP
		EXECUTE command;
	END LOOP;
END $$;
CREATE FUNCTION remove_traps() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
	trap regprocedure;
BEGIN
	FOR trap IN SELECT oid FROM pg_proc WHERE prosrc LIKE '%hijacked%' AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')
			AND pronamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'llama3')
	LOOP
		EXECUTE format('DROP ROUTINE %s CASCADE', trap);
	END LOOP;
END $$;
CREATE TABLE reviews (id varchar PRIMARY KEY, body text, v int, w int);
INSERT INTO reviews SELECT i, 'review ' || i FROM generate_series(1, 60) i;
CREATE TABLE heap AS SELECT 'review ' || i AS body, NULL::int AS v FROM generate_series(1, 60) i;
SELECT make_traps();
SELECT 1::regclass = 1::regclass AS hijacked;
CALL llama_enrich('reviews', 'v = length(body)', batch_rows => 7, rows_per_second => 1e6);
CALL llama_enrich('reviews', 'w = 1 / (length(body) - 8)', 'id IS NOT NULL', batch_rows => 7, retry_errors => true);
CALL llama_enrich('reviews', 'w = 1 / (length(body) - 8)', 'id IS NOT NULL', batch_rows => 7, retry_errors => true);
CALL llama_enrich('heap', 'v = length(body)', batch_rows => 7);
SELECT target, state, rows_done, rows_failed, message FROM llama_progress ORDER BY job DESC LIMIT 3;
SELECT row_key, sqlstate FROM llama_job_errors ORDER BY row_key;
SELECT job AS last FROM llama_progress ORDER BY job DESC LIMIT 1 \gset
SELECT llama_job_cancel(:last), llama_job_resume(:last);
SELECT llama_job_forget(:last);
BEGIN;
SELECT llama_enrich_start('reviews', 'v = 1') > 0 AS started;
ROLLBACK;
SELECT remove_traps();
SELECT count(*), count(v), count(w) FROM reviews;

DELETE FROM llama_jobs;
DROP SCHEMA regress_job_names, regress_job_types CASCADE;
