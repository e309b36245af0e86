-- Models: the list, plans, loading and unloading at run time.
SELECT name, state, parameters > 0 AS parameters, weights_bytes > 0 AS weights, tokenizer_bytes > 0 AS tokenizer,
	context, chat_form, length(checksum) AS checksum, progress, error, note FROM llama_models;

-- a plan reads headers only
SELECT architecture, parameters = (SELECT parameters FROM llama_models WHERE name = 'tiny') AS parameters, file_types, packed_types,
	weights_bytes > 0 AS weights, kv_bytes_per_token > 0 AS kv, workspace_bytes > 0 AS workspace, context, fits
FROM llama_model_plan('tiny.gguf');

-- the same file under another name is the same function
SELECT llama_load_model('tiny.gguf', 'second');
SELECT name, state FROM llama_models;
SELECT count(DISTINCT checksum) AS checksums FROM llama_models;
SELECT llama_generate('x', max_tokens => 16, model => 'second') = llama_generate('x', max_tokens => 16, model => 'tiny') AS same_answer,
	llama_embed('x', model => 'second') = llama_embed('x', model => 'tiny') AS same_embedding;
SET llama3.default_model = 'second';
SELECT llama_count_tokens('x');
\set VERBOSITY terse
SELECT llama_load_model('tiny.gguf', 'second');
SELECT llama_unload_model('second');
SELECT llama_generate('x', model => 'second');
SELECT llama_generate('x');
RESET llama3.default_model;
SELECT llama_unload_model('second');
SELECT llama_generate('x', max_tokens => 4) IS NOT NULL AS the_other_is_there;

-- files that are none
\set VERBOSITY sqlstate
SELECT llama_load_model('missing.gguf');
\set VERBOSITY terse
SELECT llama_load_model('');
SELECT llama_load_model('tiny.gguf', quantize => 'q1');
\set VERBOSITY default
SELECT name, state FROM llama_models ORDER BY name;
