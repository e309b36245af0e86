-- Who may do what.
CREATE ROLE llama3_user;
CREATE ROLE llama3_monitor IN ROLE pg_read_all_stats;

-- every object says what it is
SELECT count(*) AS without_comment FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'llama3' AND d.deptype = 'e' AND obj_description(d.objid, d.classid::regclass::name) IS NULL
	AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass);
SELECT count(*) AS in_the_extension FROM pg_proc WHERE proname LIKE 'llama\_%';

-- what anybody may call, and what not
SELECT proname, has_function_privilege('llama3_user', oid, 'EXECUTE') AS anybody FROM pg_proc
WHERE proname LIKE 'llama\_%' ORDER BY proname COLLATE "C";

SET ROLE llama3_user;
SELECT llama_generate('x', max_tokens => 2) IS NOT NULL AS generated, llama_count_tokens('x') > 0 AS counted;
\set VERBOSITY terse
SELECT llama_load_model('tiny.gguf', 'mine');
SELECT llama_unload_model('tiny');
SELECT * FROM llama_model_plan('tiny.gguf');
SELECT count(*) FROM llama_models;
SELECT count(*) >= 1 FROM llama_stat_workers;
SELECT count(*) FROM llama_stat;
\set VERBOSITY default

-- others' prompts are hidden; of several long answers one at least still runs
RESET ROLE;
BEGIN;
DO $$
BEGIN
	FOR i IN 1 .. 8 LOOP
		EXECUTE format('DECLARE c%s CURSOR FOR SELECT llama_generate_stream(''secret %s'', max_tokens => 4000)', i, i);
		EXECUTE format('MOVE 1 IN c%s', i);
	END LOOP;
END $$;
SELECT count(*) > 0 AS running, bool_and(prompt LIKE '%secret%') AS shown FROM llama_stat_requests WHERE pid = pg_backend_pid();
SET LOCAL ROLE llama3_user;
SELECT count(*) > 0 AS running, bool_or(prompt LIKE '%secret%') AS shown FROM llama_stat_requests WHERE pid = pg_backend_pid();
RESET ROLE;
SET LOCAL ROLE llama3_monitor;
SELECT count(*) > 0 AS running, bool_and(prompt LIKE '%secret%') AS shown FROM llama_stat_requests WHERE pid = pg_backend_pid();
ROLLBACK;
DROP ROLE llama3_user;
DROP ROLE llama3_monitor;
