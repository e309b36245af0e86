-- The JSON Schema of a type.
CREATE SCHEMA type_schema;
SET search_path = type_schema, public;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'say "hi"');
CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0);
CREATE DOMAIN country AS varchar(2) CHECK (VALUE ~ '^[A-Z]*$');
COMMENT ON DOMAIN country IS 'ISO 3166 code';
CREATE TYPE address AS (street text, zip char(5), country country);
COMMENT ON TYPE address IS 'where somebody lives';
CREATE TABLE person (gone interval, name text NOT NULL, mood mood, age smallint, home address, "a ""key""" bool);
ALTER TABLE person DROP COLUMN gone;
COMMENT ON COLUMN person.age IS E'in years,\n"completed"';
SELECT jsonb_pretty(llama_type_schema('person'));
SELECT t, llama_type_schema(t) FROM unnest(ARRAY['int2', 'int4', 'int8', 'numeric', 'real', 'float8', 'bool', 'text', 'varchar', 'bpchar', 'name',
	'uuid', 'json', 'jsonb', 'int[]', 'mood', 'mood[]', 'positive', 'country', 'address[]']::regtype[]) t;
-- an array within one is read as a dimension more, so there is none in arrays of JSON, and no domain over one within an array
SELECT array_dims(v), v FROM jsonb_to_record('{"v": [[1], [2]]}') r (v jsonb[]);
SELECT v FROM jsonb_to_record('{"v": [[1], 2]}') r (v jsonb[]);
CREATE DOMAIN document AS jsonb;
CREATE DOMAIN vector AS int[];
CREATE DOMAIN point_of_vector AS vector;
SELECT v FROM jsonb_to_record('{"v": [[1], [2]]}') r (v vector[]);
CREATE TYPE holder AS (js json[], ds document[], v vector);
SELECT t, llama_type_schema(t) FROM unnest(ARRAY['json[]', 'jsonb[]', 'document', 'document[]', 'vector', 'holder[]']::regtype[]) t;
SELECT llama_type_schema('vector[]');
SELECT llama_type_schema('point_of_vector[]');
CREATE TYPE vectors AS (a int, b vector[]);
SELECT llama_type_schema('vectors');
CREATE TYPE numbers AS (a numeric(8,2), b numeric(4), c numeric(3,5), d numeric(2,-3), e numeric(2,2), f numeric(15), g numeric(16), h numeric(20,10), i numeric(40,30), j numeric(40,20));
SELECT key, value FROM jsonb_each(llama_type_schema('numbers') -> 'properties');
CREATE TYPE times AS (d date, t time, ts timestamp, tz timestamptz);
SELECT key, value ->> 'type' AS type FROM jsonb_each(llama_type_schema('times') -> 'properties');
-- the patterns of dates and times allow what there is and nothing else
CREATE FUNCTION pattern_of(c text) RETURNS text LANGUAGE sql AS $$ SELECT llama_type_schema('times') #>> ARRAY['properties', c, 'pattern'] $$;
SELECT count(*) AS days, count(*) FILTER (WHERE s !~ pattern_of('d')) AS refused, count(*) FILTER (WHERE s::date <> d) AS misread
FROM (SELECT d, to_char(d, 'YYYY-MM-DD') AS s FROM (SELECT date '0001-01-01' + i AS d FROM generate_series(0, 3652058, 61) i
	UNION SELECT generate_series(timestamp '1895-12-28', '2005-01-05', '1 day')::date) u) v;
SELECT s, s ~ pattern_of('d') AS allowed FROM unnest(ARRAY['2024-02-29', '2000-02-29', '0004-02-29', '9999-12-31', '1900-02-29', '2023-02-29', '0000-02-29', '0000-01-01',
	'2024-02-30', '2024-13-01', '2024-00-10', '2024-01-00', '2024-01-32', '2024-04-31', '24-01-01', '2024-1-1', '2024-01-01 ', 'x2024-01-01', E'2024-01-01\n']) s;
SELECT s, s ~ pattern_of('t') AS t, s ~ pattern_of('ts') AS ts, s ~ pattern_of('tz') AS tz FROM unnest(ARRAY['00:00:00', '23:59:59', '24:00:00', '12:60:00', '12:00:60',
	'2024-02-29T23:59:59', '2023-02-29T23:59:59', '2024-02-29T23:59:59Z', '2024-02-29T23:59:59+14:59', '2024-02-29T23:59:59-15:00', '2024-02-29 23:59:59']) s;
-- views and domains over rows have rows too
CREATE VIEW adults AS SELECT name, age FROM person;
CREATE DOMAIN home AS address CHECK ((VALUE).zip IS NOT NULL);
SELECT llama_type_schema('adults'), llama_type_schema('home') = llama_type_schema('address') AS same;
-- types that are not supported
CREATE TYPE deep AS (a int, b int4range[]);
SELECT llama_type_schema('interval');
SELECT llama_type_schema('deep');
SELECT llama_type_schema('record');
SELECT llama_type_schema('bytea[]');
SELECT llama_type_schema(4000000000::oid::regtype);
SELECT llama_type_schema(NULL);
CREATE TABLE hollow ();
SELECT llama_type_schema('hollow');

-- a type that changes has another schema at once
CREATE TYPE growing AS (a bool);
SELECT llama_type_schema('growing');
ALTER TYPE growing ADD ATTRIBUTE b text;
ALTER TYPE growing DROP ATTRIBUTE a;
SELECT llama_type_schema('growing');
ALTER TYPE mood ADD VALUE 'new' BEFORE 'sad';
SELECT llama_type_schema('mood');
SET client_min_messages = warning;
DROP SCHEMA type_schema CASCADE;
