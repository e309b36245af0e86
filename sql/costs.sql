-- What the planner is told of the functions: costs, selectivities, and what
-- follows from them.
CREATE TABLE texts AS SELECT i AS id, 'short' AS a, repeat('long ', 100) AS b, repeat('-', 500) AS fill FROM generate_series(1, 1000) i;
ANALYZE texts;

-- a node of a plan: its estimates
CREATE FUNCTION estimate(query text, what text, node text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE answer json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO answer;
	RETURN jsonb_path_query_first(answer::jsonb, format('strict $.** ? (@."Node Type" == "%s")', node)::jsonpath) ->> what;
END $$;
CREATE FUNCTION cost(call text) RETURNS float8 LANGUAGE sql AS $$
	SELECT estimate(format('SELECT %s FROM texts', call), 'Total Cost', 'Seq Scan') - estimate('SELECT id FROM texts', 'Total Cost', 'Seq Scan') $$;
-- the first cost as a multiple of the second
CREATE FUNCTION cost_ratio(one text, other text) RETURNS numeric LANGUAGE sql AS $$ SELECT round((cost(one) / cost(other))::numeric, 1) $$;

-- the text's own tokens: 16, and a fourth of its bytes (126 for a value of 504)
SELECT cost_ratio('llama_filter(b, ''c'')', 'llama_filter(''1234'', ''c'')');
SELECT cost_ratio('llama_filter(b || b, ''c'')', 'llama_filter(''1234'', ''c'')');
SELECT cost_ratio('llama_filter(b, a)', 'llama_filter(b, ''c'')');
-- what is the same for all rows does not count
SELECT cost_ratio('llama_filter(b, repeat(''c'', 1000))', 'llama_filter(b, ''c'')'),
	cost_ratio('llama_classify(b, ''{a,b,c,d,e,f,g,h}'')', 'llama_filter(b, ''c'')');
-- an answer's length is what the call allows
SELECT cost_ratio('llama_complete(a, 3000)', 'llama_complete(a, 1000)');
SET llama3.max_tokens = 1000;
SELECT cost('llama_complete(a)') = cost('llama_complete(a, 1000)') AS by_setting, cost('llama_generate(a, max_tokens => id)') = cost('llama_generate(a)') AS unknown;
RESET llama3.max_tokens;
SELECT cost_ratio('llama_summarize(a, 3000)', 'llama_summarize(a, 1000)');
SELECT cost('llama_translate(b, ''French'')') > 2 * cost('llama_translate(a, ''French'')') AS as_long_as_the_text,
	cost('llama_complete(a, 100)') > cost('llama_filter(a, ''c'')') AS answers_cost_more;
-- of all the functions that ask the model: none lacks the planner's support
SELECT p.oid::regprocedure FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
	JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE e.extname = 'llama3' AND d.deptype = 'e' AND p.procost >= 1000 AND p.provolatile <> 'v' AND p.prosupport <> 'llama_support'::regproc;

-- conditions: cheap ones first, and of calls the cheaper
EXPLAIN (COSTS off) SELECT id FROM texts WHERE llama_complete(a, 1000) <> '' AND llama_filter(a, 'c') AND a LIKE 's%';

-- ------------------------------------------------------------ selectivity
SET llama3.filter_selectivity = 0.25;
SELECT estimate('SELECT id FROM texts WHERE llama_filter(a, ''c'')', 'Plan Rows', 'Custom Scan') AS passed,
	estimate('SELECT id FROM texts WHERE llama_filter(a, ''c'')', 'Plan Rows', 'Seq Scan') AS asked;
SELECT estimate('SELECT id FROM texts WHERE NOT llama_filter(a, ''c'') AND id <= 400', 'Plan Rows', 'Custom Scan') AS passed,
	estimate('SELECT id FROM texts WHERE NOT llama_filter(a, ''c'') AND id <= 400', 'Plan Rows', 'Seq Scan') AS asked;
SELECT estimate('SELECT id FROM texts WHERE llama_filter(a, ''c'') AND llama_filter(b, ''c'')', 'Plan Rows', 'Seq Scan') AS asked;
SELECT estimate('SELECT count(*) FROM texts t JOIN texts u ON t.id = u.id AND llama_filter(t.a, u.a)', 'Plan Rows', 'Custom Scan') AS passed;
SET llama3.filter_selectivity = 0;
SELECT estimate('SELECT id FROM texts WHERE llama_filter(a, ''c'')', 'Plan Rows', 'Custom Scan');
SET llama3.filter_selectivity = 1;
SELECT estimate('SELECT id FROM texts WHERE llama_filter(a, ''c'')', 'Plan Rows', 'Custom Scan');
SET llama3.filter_selectivity = 1.1;
-- what has another owner's settings is estimated as any condition
RESET llama3.filter_selectivity;
ALTER FUNCTION llama_filter(text, text, text) SET work_mem = '1MB';
SELECT estimate('SELECT id FROM texts WHERE llama_filter(a, ''c'')', 'Plan Rows', 'Seq Scan');
ALTER FUNCTION llama_filter(text, text, text) RESET ALL;

-- ------------------------------------------------------ parallel plans, JIT
-- workers are started for the rest of a query, not for its calls
SET min_parallel_table_scan_size = 0;
SET llama3.filter_selectivity = 0.5;
EXPLAIN (COSTS off) SELECT llama_filter(a, 'c') FROM texts WHERE llama_filter(b, 'c');
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
EXPLAIN (COSTS off) SELECT id FROM texts WHERE llama_filter(b, 'c');
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
-- nothing of a query with calls is compiled: a plan tells what would be
SET jit = on;
SET jit_above_cost = 0;
CREATE FUNCTION compiles(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE line text; found boolean := NOT pg_jit_available();
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
		found := found OR line ~ '^JIT';
	END LOOP;
	RETURN found;
END $$;
CREATE FUNCTION inlined(x text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT x = '' OR llama_filter(x, 'c') $$;
PREPARE p (text) AS SELECT llama_filter(a, $1) FROM texts WHERE id < 3;
SET plan_cache_mode = force_generic_plan;
SELECT compiles('SELECT id + 1 FROM texts WHERE id < 3') OR NOT pg_jit_available() AS without_calls, compiles('SELECT llama_filter(a, ''c'') FROM texts WHERE id < 3') AND pg_jit_available() AS a_call,
	compiles('SELECT CASE WHEN id = 1 THEN llama_filter(a, ''c'') END FROM texts') AND pg_jit_available() AS within_case,
	compiles('SELECT inlined(a) FROM texts') AND pg_jit_available() AS within_a_function, compiles('EXECUTE p (''c'')') AND pg_jit_available() AS prepared,
	compiles('SELECT llama_agg(a, ''c'') FROM texts') AND pg_jit_available() AS an_aggregate,
	compiles('SELECT count(*) FROM texts, llama_logprobs(a, b)') AND pg_jit_available() AS a_set;
DEALLOCATE p;
