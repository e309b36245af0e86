-- Who may do what.
CREATE ROLE llama3_user;
CREATE ROLE llama3_monitor IN ROLE pg_read_all_stats;

-- what anybody may call, and what not
\pset format unaligned
\pset footer off
SELECT proname, has_function_privilege('llama3_user', oid, 'EXECUTE') AS anybody FROM pg_proc
WHERE proname LIKE 'llama\_%' AND NOT 'internal'::regtype = ANY (proargtypes) ORDER BY proname COLLATE "C";
\pset format aligned
\pset footer on

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

-- others' prompts are hidden
RESET ROLE;
-- a prompt whose answer does not end soon (to repeat is rewarded)
SELECT 'Question number ' || i AS longest FROM generate_series(1, 40) i
ORDER BY length(llama_generate('Question number ' || i, max_tokens => 500, repeat_penalty => 0.5)) DESC LIMIT 1 \gset
BEGIN;
DECLARE c CURSOR FOR SELECT llama_generate_stream(:'longest', max_tokens => 8000, repeat_penalty => 0.5);
MOVE 1 IN c;
SELECT count(*) > 0 AS running, bool_and(prompt LIKE '%Question%') AS shown FROM llama_stat_requests WHERE pid = pg_backend_pid();
SET LOCAL ROLE llama3_user;
SELECT count(*) > 0 AS running, bool_or(prompt LIKE '%Question%') AS shown FROM llama_stat_requests WHERE pid = pg_backend_pid();
RESET ROLE;
SET LOCAL ROLE llama3_monitor;
SELECT count(*) > 0 AS running, bool_and(prompt LIKE '%Question%') AS shown FROM llama_stat_requests WHERE pid = pg_backend_pid();
ROLLBACK;
DROP ROLE llama3_user;
DROP ROLE llama3_monitor;
