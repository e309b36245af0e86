/*
 * llama3--1.0.sql
 *
 * Conventions of every function that uses a model:
 * - the last argument is always model; NULL is llama3.default_model;
 * - every optional argument is named, and NULL means its default; the options
 *   of generation are max_tokens (1 .. 1048576; llama3.max_tokens),
 *   temperature (0 .. 2; 0, greedy), top_p (0 .. 1; 1, off), top_k (0 ..
 *   1048576; 0, off), min_p (0 .. 1; 0, off), seed (0 .. 2^63 - 1; 0), stop
 *   (at most 16 strings of at most 1024 bytes; the answer ends before the
 *   first that appears), repeat_penalty (0.1 .. 10; 1, off);
 * - NULL text in gives NULL out, without work.  The functions are not STRICT,
 *   because a NULL among the optional arguments is no NULL answer;
 * - errors: 22023 an argument is wrong; 42704 no such model; 55000 llama3 is
 *   not preloaded, no model is loaded, or this one cannot do that; 54000 the
 *   prompt is longer than the context (NULL and a warning under
 *   llama3.on_error = 'null'); 57P03 no engine worker is running.
 *
 * Volatility.  An answer depends on nothing but the arguments and the model's
 * weights, bit for bit; which model a name (or the default) stands for can
 * change between statements: STABLE.  The planner may call a STABLE function of
 * constants for an estimate.
 *
 * Parallel queries.  Workers only put requests into the queue: PARALLEL SAFE.
 * llama_generate_stream must run in the leader, which alone has the client.
 *
 * Cost, in units of cpu_operator_cost (0.0025): what runs the model has 1,000
 * where one pass over the prompt gives the answer and 10,000 where an answer is
 * generated.  So these calls come last among a WHERE clause's conditions, and
 * above a Sort with LIMIT.  A cost in proportion to the time would be a hundred
 * times higher, but then nearly every query would pass jit_above_cost, and JIT
 * takes 24 MB in each backend to compile expressions that wait for the engine;
 * so a query reaches it with 40,000 decisions or 4,000 answers.  What only uses
 * the tokenizer has 100.
 */

\echo Use "CREATE EXTENSION llama3" to load this file. \quit

/* ---------------------------------------------------------------------
 * Generation
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_generate(
	prompt text,
	system text DEFAULT NULL,
	max_tokens integer DEFAULT NULL,
	temperature double precision DEFAULT NULL,
	top_p double precision DEFAULT NULL,
	top_k integer DEFAULT NULL,
	min_p double precision DEFAULT NULL,
	seed bigint DEFAULT NULL,
	stop text[] DEFAULT NULL,
	repeat_penalty double precision DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_generate'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llama_generate(text, text, integer, float8, float8, integer, float8, bigint, text[], float8, text) IS
	'the model''s chat answer to one user turn; max_tokens in tokens; NULL for a NULL prompt; 55000 if the model has no chat form';

CREATE FUNCTION llama_chat(
	messages jsonb,
	max_tokens integer DEFAULT NULL,
	temperature double precision DEFAULT NULL,
	top_p double precision DEFAULT NULL,
	top_k integer DEFAULT NULL,
	min_p double precision DEFAULT NULL,
	seed bigint DEFAULT NULL,
	stop text[] DEFAULT NULL,
	repeat_penalty double precision DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_chat'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llama_chat(jsonb, integer, float8, float8, integer, float8, bigint, text[], float8, text) IS
	'the answer to a chat, [{"role": "system|user|assistant|ipython|tool", "content": text}, ...]; only the first message can be the system''s, and the last must be one to answer; NULL for NULL messages; 22023 for any other shape';

CREATE FUNCTION llama_complete(
	prefix text,
	max_tokens integer DEFAULT NULL,
	temperature double precision DEFAULT NULL,
	top_p double precision DEFAULT NULL,
	top_k integer DEFAULT NULL,
	min_p double precision DEFAULT NULL,
	seed bigint DEFAULT NULL,
	stop text[] DEFAULT NULL,
	repeat_penalty double precision DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_complete'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llama_complete(text, integer, float8, float8, integer, float8, bigint, text[], float8, text) IS
	'raw continuation of a text, without a chat form: works with every model; NULL for a NULL prefix';

CREATE FUNCTION llama_generate_stream(
	prompt text,
	system text DEFAULT NULL,
	max_tokens integer DEFAULT NULL,
	temperature double precision DEFAULT NULL,
	top_p double precision DEFAULT NULL,
	top_k integer DEFAULT NULL,
	min_p double precision DEFAULT NULL,
	seed bigint DEFAULT NULL,
	stop text[] DEFAULT NULL,
	repeat_penalty double precision DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS SETOF text
	AS 'MODULE_PATHNAME', 'llama_generate_stream'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 100;
COMMENT ON FUNCTION llama_generate_stream(text, text, integer, float8, float8, integer, float8, bigint, text[], float8, text) IS
	'llama_generate''s answer in pieces of whole characters, each sent to the client as it is made when called in the select list; no rows for a NULL prompt or an empty answer';

/* ---------------------------------------------------------------------
 * Decisions: read from the model's probabilities, not generated
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_classify(
	input text,
	labels text[],
	task text DEFAULT NULL,
	examples jsonb DEFAULT NULL,
	calibrate boolean DEFAULT false,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_classify'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_classify(text, text[], text, jsonb, boolean, text) IS
	'the most probable of 2 to 1000 distinct labels, the first of equals; task says what to look at; examples are [{"input": text, "label": text}, ...]; calibrate divides by the probabilities for a text without content; NULL for a NULL input';

CREATE FUNCTION llama_classify_prob(
	input text,
	labels text[],
	task text DEFAULT NULL,
	examples jsonb DEFAULT NULL,
	calibrate boolean DEFAULT false,
	model text DEFAULT NULL)
	RETURNS double precision[]
	AS 'MODULE_PATHNAME', 'llama_classify_prob'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_classify_prob(text, text[], text, jsonb, boolean, text) IS
	'the probability (0 .. 1) of each label, in the order given, summing to 1: that the model''s answer begins with the label, normalised over the labels; calibrate divides by the probabilities for a text without content; NULL for a NULL input';

CREATE FUNCTION llama_classify_multi(
	input text,
	labels text[],
	task text DEFAULT NULL,
	threshold double precision DEFAULT 0.5,
	model text DEFAULT NULL)
	RETURNS text[]
	AS 'MODULE_PATHNAME', 'llama_classify_multi'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_classify_multi(text, text[], text, float8, text) IS
	'those of 1 to 1000 distinct labels that apply, each on its own: whose probability P(Yes) / (P(Yes) + P(No)) is above the threshold (0 .. 1); in the order given, empty if none; NULL for a NULL input';

CREATE FUNCTION llama_filter(
	input text,
	condition text,
	model text DEFAULT NULL)
	RETURNS boolean
	AS 'MODULE_PATHNAME', 'llama_filter'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_filter(text, text, text) IS
	'does the condition hold for the text: is its probability above 0.5; NULL for a NULL input or condition';

CREATE FUNCTION llama_filter_prob(
	input text,
	condition text,
	model text DEFAULT NULL)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_filter_prob'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_filter_prob(text, text, text) IS
	'the probability (0 .. 1) that the condition holds for the text: P(Yes) / (P(Yes) + P(No)); NULL for a NULL input or condition';

CREATE FUNCTION llama_score(
	input text,
	criterion text,
	low integer DEFAULT 1,
	high integer DEFAULT 5,
	model text DEFAULT NULL)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_score'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_score(text, text, integer, integer, text) IS
	'the text''s rating by a criterion: the expected value, sum of k * P(k), over the whole numbers low .. high, 2 to 101 of them; NULL for a NULL input or criterion';

CREATE FUNCTION llama_rank(
	query text,
	document text,
	model text DEFAULT NULL)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_rank'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_rank(text, text, text) IS
	'the probability (0 .. 1) that the document answers the query: P(Yes) / (P(Yes) + P(No)); for ORDER BY ... DESC; NULL if either is NULL';

CREATE FUNCTION llama_sentiment(
	input text,
	aspect text DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_sentiment'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_sentiment(text, text, text) IS
	'positive, negative, neutral or mixed: the most probable; of what the text says about the aspect, if one is given; NULL for a NULL input';

/* ---------------------------------------------------------------------
 * Structured output
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_type_schema(type regtype)
	RETURNS jsonb
	AS 'MODULE_PATHNAME', 'llama_type_schema'
	LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_type_schema(regtype) IS
	'the JSON Schema of what jsonb_populate_record reads as this type, but for the CHECKs of domains; comments on types and columns are its descriptions; NULL for NULL, 42704 for an unknown type, 0A000 for one that is not supported';

/* ---------------------------------------------------------------------
 * Texts made of a text: temperature 0, white space around them removed
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_summarize(
	input text,
	max_words integer DEFAULT 50,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_summarize'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llama_summarize(text, integer, text) IS
	'a summary, for which the model is told max_words (1 .. 10000) and given 32 + 3 * max_words tokens; empty for a blank input, NULL for a NULL one';

CREATE FUNCTION llama_translate(
	input text,
	to_language text,
	from_language text DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_translate'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llama_translate(text, text, text, text) IS
	'the text in another language, of at most 32 + 3 times its tokens; empty for a blank input, NULL for a NULL input or to_language';

CREATE FUNCTION llama_redact(
	input text,
	categories text[] DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_redact'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llama_redact(text, text[], text) IS
	'the text with what belongs to the categories (NULL: personal data) replaced by [CATEGORY], of at most 32 + 2 times its tokens; empty for a blank input, NULL for a NULL one';

CREATE FUNCTION llama_fix_grammar(
	input text,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_fix_grammar'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llama_fix_grammar(text, text) IS
	'the text with its mistakes in spelling, grammar and punctuation corrected, of at most 32 + 2 times its tokens; empty for a blank input, NULL for a NULL one';

/* ---------------------------------------------------------------------
 * Aggregates: one text made of the texts of many rows
 *
 * As many texts as fit are asked about together, then the answers, and so on
 * (reduce.c).  Aggregates take neither names nor defaults for their arguments,
 * hence one for each number of these.  The server calls all aggregates
 * IMMUTABLE; these are as STABLE as the other functions.
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_agg_finalfn(internal)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_agg_finalfn'
	LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llama_agg_finalfn(internal) IS
	'of llama_agg and llama_summarize_agg: the state''s answer; the state can go on';

CREATE FUNCTION llama_agg_combinefn(internal, internal)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_agg_combinefn'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_agg_combinefn(internal, internal) IS
	'of llama_agg and llama_summarize_agg: the first state with the texts of the second behind its own';

CREATE FUNCTION llama_agg_serialfn(internal)
	RETURNS bytea
	AS 'MODULE_PATHNAME', 'llama_agg_serialfn'
	LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_agg_serialfn(internal) IS
	'of llama_agg and llama_summarize_agg: the state as bytes, with no request in flight';

CREATE FUNCTION llama_agg_deserialfn(bytea, internal)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_agg_deserialfn'
	LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_agg_deserialfn(bytea, internal) IS
	'of llama_agg and llama_summarize_agg: the state of these bytes; 55000 if its model is not loaded any more';

CREATE FUNCTION llama_agg_transfn(internal, input text, task text)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_agg_transfn'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_agg_transfn(internal, text, text) IS
	'of llama_agg: the state with one text more';
CREATE AGGREGATE llama_agg(input text, task text) (
	SFUNC = llama_agg_transfn,
	STYPE = internal,
	SSPACE = 4096,
	FINALFUNC = llama_agg_finalfn,
	FINALFUNC_MODIFY = READ_ONLY,
	COMBINEFUNC = llama_agg_combinefn,
	SERIALFUNC = llama_agg_serialfn,
	DESERIALFUNC = llama_agg_deserialfn,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE llama_agg(text, text) IS
	'the answer to a task about all inputs together, in their order; max_tokens (1 .. 1048576; llama3.max_tokens) of the answer; rows with a NULL input or task are skipped, NULL if there are no others; 22023 if the task is blank or not the same for all rows';

CREATE FUNCTION llama_agg_transfn(internal, input text, task text, max_tokens integer)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_agg_transfn'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_agg_transfn(internal, text, text, integer) IS
	'of llama_agg: the state with one text more';
CREATE AGGREGATE llama_agg(input text, task text, max_tokens integer) (
	SFUNC = llama_agg_transfn,
	STYPE = internal,
	SSPACE = 4096,
	FINALFUNC = llama_agg_finalfn,
	FINALFUNC_MODIFY = READ_ONLY,
	COMBINEFUNC = llama_agg_combinefn,
	SERIALFUNC = llama_agg_serialfn,
	DESERIALFUNC = llama_agg_deserialfn,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE llama_agg(text, text, integer) IS
	'the answer to a task about all inputs together, in their order; max_tokens (1 .. 1048576; llama3.max_tokens) of the answer; rows with a NULL input or task are skipped, NULL if there are no others; 22023 if the task is blank or not the same for all rows';

CREATE FUNCTION llama_agg_transfn(internal, input text, task text, max_tokens integer, model text)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_agg_transfn'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_agg_transfn(internal, text, text, integer, text) IS
	'of llama_agg: the state with one text more';
CREATE AGGREGATE llama_agg(input text, task text, max_tokens integer, model text) (
	SFUNC = llama_agg_transfn,
	STYPE = internal,
	SSPACE = 4096,
	FINALFUNC = llama_agg_finalfn,
	FINALFUNC_MODIFY = READ_ONLY,
	COMBINEFUNC = llama_agg_combinefn,
	SERIALFUNC = llama_agg_serialfn,
	DESERIALFUNC = llama_agg_deserialfn,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE llama_agg(text, text, integer, text) IS
	'the answer to a task about all inputs together, in their order; max_tokens (1 .. 1048576; llama3.max_tokens) of the answer; rows with a NULL input or task are skipped, NULL if there are no others; 22023 if the task is blank or not the same for all rows';

CREATE FUNCTION llama_summarize_agg_transfn(internal, input text)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_summarize_agg_transfn'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_summarize_agg_transfn(internal, text) IS
	'of llama_summarize_agg: the state with one text more';
CREATE AGGREGATE llama_summarize_agg(input text) (
	SFUNC = llama_summarize_agg_transfn,
	STYPE = internal,
	SSPACE = 4096,
	FINALFUNC = llama_agg_finalfn,
	FINALFUNC_MODIFY = READ_ONLY,
	COMBINEFUNC = llama_agg_combinefn,
	SERIALFUNC = llama_agg_serialfn,
	DESERIALFUNC = llama_agg_deserialfn,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE llama_summarize_agg(text) IS
	'a summary of all inputs together, in their order, for which the model is told max_words (1 .. 10000; 100) and given 32 + 3 * max_words tokens; NULL inputs are skipped, NULL if there are no others; 22023 if max_words is not the same for all rows';

CREATE FUNCTION llama_summarize_agg_transfn(internal, input text, max_words integer)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_summarize_agg_transfn'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_summarize_agg_transfn(internal, text, integer) IS
	'of llama_summarize_agg: the state with one text more';
CREATE AGGREGATE llama_summarize_agg(input text, max_words integer) (
	SFUNC = llama_summarize_agg_transfn,
	STYPE = internal,
	SSPACE = 4096,
	FINALFUNC = llama_agg_finalfn,
	FINALFUNC_MODIFY = READ_ONLY,
	COMBINEFUNC = llama_agg_combinefn,
	SERIALFUNC = llama_agg_serialfn,
	DESERIALFUNC = llama_agg_deserialfn,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE llama_summarize_agg(text, integer) IS
	'a summary of all inputs together, in their order, for which the model is told max_words (1 .. 10000; 100) and given 32 + 3 * max_words tokens; NULL inputs are skipped, NULL if there are no others; 22023 if max_words is not the same for all rows';

CREATE FUNCTION llama_summarize_agg_transfn(internal, input text, max_words integer, model text)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_summarize_agg_transfn'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_summarize_agg_transfn(internal, text, integer, text) IS
	'of llama_summarize_agg: the state with one text more';
CREATE AGGREGATE llama_summarize_agg(input text, max_words integer, model text) (
	SFUNC = llama_summarize_agg_transfn,
	STYPE = internal,
	SSPACE = 4096,
	FINALFUNC = llama_agg_finalfn,
	FINALFUNC_MODIFY = READ_ONLY,
	COMBINEFUNC = llama_agg_combinefn,
	SERIALFUNC = llama_agg_serialfn,
	DESERIALFUNC = llama_agg_deserialfn,
	PARALLEL = SAFE);
COMMENT ON AGGREGATE llama_summarize_agg(text, integer, text) IS
	'a summary of all inputs together, in their order, for which the model is told max_words (1 .. 10000; 100) and given 32 + 3 * max_words tokens; NULL inputs are skipped, NULL if there are no others; 22023 if max_words is not the same for all rows';

/* ---------------------------------------------------------------------
 * Embeddings
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_embed(
	input text,
	dimensions integer DEFAULT NULL,
	pooling text DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS real[]
	AS 'MODULE_PATHNAME', 'llama_embed'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llama_embed(text, integer, text, text) IS
	'the text''s embedding, of length 1; dimensions keeps the first ones (default: all that the model has); pooling is mean (default) or last; NULL for a NULL input';

CREATE FUNCTION llama_similarity(
	a text,
	b text,
	model text DEFAULT NULL)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_similarity'
	LANGUAGE C STABLE PARALLEL SAFE COST 2000;
COMMENT ON FUNCTION llama_similarity(text, text, text) IS
	'the cosine (-1 .. 1) of two texts'' embeddings, pooled by mean; NULL if either is NULL';

/* ---------------------------------------------------------------------
 * Tokens
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_tokenize(
	input text,
	special boolean DEFAULT false,
	model text DEFAULT NULL)
	RETURNS integer[]
	AS 'MODULE_PATHNAME', 'llama_tokenize'
	LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_tokenize(text, boolean, text) IS
	'the text''s tokens, without begin-of-text; special tokens in the text are recognised only when special is true; NULL for a NULL input';

CREATE FUNCTION llama_detokenize(
	tokens integer[],
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_detokenize'
	LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_detokenize(integer[], text) IS
	'the tokens'' text; bytes that are no valid character become U+FFFD, or ? where the database''s encoding lacks it; NULL for NULL tokens; 22023 for a token that is not in the vocabulary';

CREATE FUNCTION llama_count_tokens(
	input text,
	model text DEFAULT NULL)
	RETURNS integer
	AS 'MODULE_PATHNAME', 'llama_count_tokens'
	LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_count_tokens(text, text) IS
	'the number of the text''s tokens, without begin-of-text; NULL for a NULL input';

CREATE FUNCTION llama_truncate(
	input text,
	max_tokens integer,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_truncate'
	LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_truncate(text, integer, text) IS
	'the text cut after at most max_tokens (0 or more) of its tokens, at the end of a character; NULL if either is NULL';

CREATE FUNCTION llama_chunk(
	input text,
	chunk_tokens integer,
	overlap integer DEFAULT 0,
	model text DEFAULT NULL)
	RETURNS TABLE (ordinal integer, chunk text, start integer)
	AS 'MODULE_PATHNAME', 'llama_chunk'
	LANGUAGE C STABLE PARALLEL SAFE COST 100 ROWS 10;
COMMENT ON FUNCTION llama_chunk(text, integer, integer, text) IS
	'the text in chunks of at most chunk_tokens (4 or more) tokens, cut after paragraphs, sentences or words where that can be; each begins with at most overlap (0 .. chunk_tokens / 2) tokens of the one before; start is the position of its first character, from 1; no rows if input or chunk_tokens is NULL';

CREATE FUNCTION llama_logprobs(
	prompt text,
	completion text,
	model text DEFAULT NULL)
	RETURNS TABLE ("position" integer, token integer, piece text, logprob double precision)
	AS 'MODULE_PATHNAME', 'llama_logprobs'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 100;
COMMENT ON FUNCTION llama_logprobs(text, text, text) IS
	'the natural logarithm of each completion token''s probability after the prompt and the tokens before it; positions count from 1; no rows if either is NULL';

/* ---------------------------------------------------------------------
 * Models: loading, unloading, planning
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_load_model(path text, name text DEFAULT NULL, quantize text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_load_model'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000000;
COMMENT ON FUNCTION llama_load_model(text, text, text) IS
	'load a model file or directory into shared memory; returns the name it answers to';
REVOKE ALL ON FUNCTION llama_load_model(text, text, text) FROM PUBLIC;

CREATE FUNCTION llama_unload_model(name text, wait boolean DEFAULT true)
	RETURNS void
	AS 'MODULE_PATHNAME', 'llama_unload_model'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION llama_unload_model(text, boolean) IS
	'remove a model from shared memory, waiting for its running requests (or failing at once)';
REVOKE ALL ON FUNCTION llama_unload_model(text, boolean) FROM PUBLIC;

CREATE FUNCTION llama_model_plan(path text, quantize text DEFAULT NULL,
	OUT name text,
	OUT general_name text,
	OUT architecture text,
	OUT parameters bigint,
	OUT file_types text,
	OUT packed_types text,
	OUT file_bytes bigint,
	OUT weights_bytes bigint,
	OUT tokenizer_bytes bigint,
	OUT kv_bytes_per_token bigint,
	OUT workspace_bytes bigint,
	OUT context integer,
	OUT memory_free bigint,
	OUT fits boolean,
	OUT note text)
	RETURNS record
	AS 'MODULE_PATHNAME', 'llama_model_plan'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 10000;
COMMENT ON FUNCTION llama_model_plan(text, text) IS
	'what loading a model would cost, from its headers alone';
REVOKE ALL ON FUNCTION llama_model_plan(text, text) FROM PUBLIC;

/* ---------------------------------------------------------------------
 * Monitoring
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_models(
	OUT name text,
	OUT state text,
	OUT path text,
	OUT parameters bigint,
	OUT weights_bytes bigint,
	OUT tokenizer_bytes bigint,
	OUT backing text,
	OUT packed_types text,
	OUT context integer,
	OUT chat_form text,
	OUT checksum text,
	OUT requests integer,
	OUT progress double precision,
	OUT load_seconds double precision,
	OUT loaded_at timestamptz,
	OUT error text,
	OUT note text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'llama_models'
	LANGUAGE C VOLATILE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION llama_models() IS 'models in shared memory; see the view llama_models';

CREATE VIEW llama_models AS SELECT * FROM llama_models() ORDER BY name COLLATE pg_catalog."C";
COMMENT ON VIEW llama_models IS
	'models in shared memory: loading, ready, unloading, or failed with the reason';
GRANT SELECT ON llama_models TO PUBLIC;

CREATE FUNCTION llama_stat_requests(
	OUT pid integer,
	OUT datid oid,
	OUT usesysid oid,
	OUT function text,
	OUT model text,
	OUT state text,
	OUT worker integer,
	OUT prompt_tokens integer,
	OUT prompt_tokens_done integer,
	OUT cached_tokens integer,
	OUT generated_tokens integer,
	OUT queued_ms double precision,
	OUT running_ms double precision,
	OUT prompt text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'llama_stat_requests'
	LANGUAGE C VOLATILE PARALLEL SAFE ROWS 32;
COMMENT ON FUNCTION llama_stat_requests() IS
	'requests in flight; see the view llama_stat_requests';

CREATE VIEW llama_stat_requests AS
	SELECT r.pid, r.datid, d.datname, r.usesysid,
		   pg_catalog.pg_get_userbyid(r.usesysid) AS usename,
		   r.function, r.model, r.state, r.worker,
		   r.prompt_tokens, r.prompt_tokens_done, r.cached_tokens, r.generated_tokens,
		   r.queued_ms, r.running_ms, r.prompt
	FROM llama_stat_requests() r
		 LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) r.datid;
COMMENT ON VIEW llama_stat_requests IS
	'requests in flight; the prompt of others needs pg_read_all_stats';
GRANT SELECT ON llama_stat_requests TO PUBLIC;

CREATE FUNCTION llama_stat_workers(
	OUT worker integer,
	OUT pid integer,
	OUT state text,
	OUT cpu text,
	OUT threads integer,
	OUT running integer,
	OUT steps bigint,
	OUT prefill_tokens bigint,
	OUT decode_tokens bigint,
	OUT cached_tokens bigint,
	OUT tokens_per_second double precision,
	OUT kv_used_bytes bigint,
	OUT kv_cached_bytes bigint,
	OUT kv_limit_bytes bigint,
	OUT started_at timestamptz,
	OUT restarts integer)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'llama_stat_workers'
	LANGUAGE C VOLATILE PARALLEL SAFE ROWS 2;
COMMENT ON FUNCTION llama_stat_workers() IS
	'engine workers; see the view llama_stat_workers';

CREATE VIEW llama_stat_workers AS SELECT * FROM llama_stat_workers();
COMMENT ON VIEW llama_stat_workers IS
	'engine workers: what they run and what they have done since the server started';
GRANT SELECT ON llama_stat_workers TO PUBLIC;

CREATE FUNCTION llama_stat(
	OUT requests_done bigint,
	OUT requests_failed bigint,
	OUT requests_cancelled bigint,
	OUT prefill_tokens bigint,
	OUT cached_tokens bigint,
	OUT decode_tokens bigint,
	OUT slots integer,
	OUT slots_in_use integer,
	OUT queued integer,
	OUT running integer,
	OUT backends_waiting integer,
	OUT payload_bytes bigint,
	OUT stats_since timestamptz)
	RETURNS record
	AS 'MODULE_PATHNAME', 'llama_stat'
	LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION llama_stat() IS 'totals; see the view llama_stat';

CREATE VIEW llama_stat AS SELECT * FROM llama_stat();
COMMENT ON VIEW llama_stat IS
	'totals since the server started: requests by outcome, tokens, the queue now';
GRANT SELECT ON llama_stat TO PUBLIC;

CREATE FUNCTION llama_progress_statements(
	OUT pid integer,
	OUT datid oid,
	OUT usesysid oid,
	OUT started_at timestamptz,
	OUT rows_total bigint,
	OUT rows_begun bigint,
	OUT rows_done bigint,
	OUT calls_made bigint,
	OUT calls_reused bigint,
	OUT prompt_tokens bigint,
	OUT cached_tokens bigint,
	OUT generated_tokens bigint,
	OUT rows_per_second double precision,
	OUT tokens_per_second double precision,
	OUT percent double precision,
	OUT seconds_left double precision)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'llama_progress_statements'
	LANGUAGE C VOLATILE PARALLEL SAFE ROWS 4;
COMMENT ON FUNCTION llama_progress_statements() IS
	'running statements that batch calls; see the view llama_progress_statements';

/*
 * One row for each backend whose statement has a Llama Batch node, for as long
 * as the statement runs (a cursor: until it is closed):
 *	started_at			when the statement began to run
 *	rows_total			rows of the outermost batch node, as the planner estimates
 *						them, or rows_begun where those are more already; NULL
 *						where there is no estimate
 *	rows_begun			of these, rows whose calls were begun
 *	rows_done			and rows whose answers are there
 *	calls_made			calls of the statement, of statements inside it and of its
 *						parallel workers; calls_reused cost nothing
 *	prompt_tokens		of finished calls; cached_tokens of them were not computed
 *	generated_tokens	of finished calls
 *	rows_per_second		rows_done since started_at
 *	tokens_per_second	prompt_tokens + generated_tokens since started_at
 *	percent				100 * rows_done / rows_total
 *	seconds_left		for the rows that are left, at rows_per_second
 */
CREATE VIEW llama_progress_statements AS
	SELECT p.pid, p.datid, d.datname, p.usesysid,
		   pg_catalog.pg_get_userbyid(p.usesysid) AS usename,
		   p.started_at, p.rows_total, p.rows_begun, p.rows_done,
		   p.calls_made, p.calls_reused, p.prompt_tokens, p.cached_tokens, p.generated_tokens,
		   p.rows_per_second, p.tokens_per_second, p.percent, p.seconds_left
	FROM llama_progress_statements() p
		 LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) p.datid;
COMMENT ON VIEW llama_progress_statements IS
	'progress of running statements whose rows are batched: rows, calls, tokens, time left';
GRANT SELECT ON llama_progress_statements TO PUBLIC;
