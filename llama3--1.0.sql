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
 *   first that appears), repeat_penalty (0.1 .. 10; 1, off), format or
 *   format_type (not both, and not with stop: the answer is JSON that is valid
 *   for this JSON Schema, or that jsonb_populate_record reads as this type);
 * - NULL text in gives NULL out, without work.  The functions are not STRICT,
 *   because a NULL among the optional arguments is no NULL answer;
 * - errors: 22023 an argument is wrong; 42704 no such model; 55000 llama3 is
 *   not preloaded, no model is loaded, or this one cannot do that; 54000 the
 *   prompt is longer than the context, or max_tokens too small for any answer
 *   of the format (NULL and a warning under llama3.on_error = 'null'); 0A000 a
 *   keyword of the schema or a type is not supported; 57P03 no engine worker is running.
 *
 * Volatility.  An answer depends on nothing but the arguments and the model's
 * weights, bit for bit; which model a name (or the default) stands for can
 * change between statements: STABLE.  The planner may call a STABLE function of
 * constants for an estimate.  Pinned forms name the weights: IMMUTABLE.
 *
 * Parallel queries.  Workers only put requests into the queue: PARALLEL SAFE.
 * llama_generate_stream must run in the leader, which alone has the client.
 *
 * Cost.  Functions that run the model have a planner support function, which
 * gives the planner the time that a call takes: the tokens of the row's text and
 * of the answer (max_tokens where the call says it), at the speed that this
 * server has measured.  100,000 of the planner's units are a second: one, a page
 * read in sequence, is about 10 microseconds.  So these calls come last among a
 * WHERE clause's conditions, the cheaper of them first, and above a Sort with
 * LIMIT.  Speeds are rounded to powers of two, so that plans change seldom.
 * COST, in units of cpu_operator_cost (0.0025), counts where the support function
 * does not: for functions that return sets, aggregates, and a function that was
 * altered to run with settings, as its owner or not for NULLs.  It is 1,000 where one pass over the prompt gives the answer and
 * 10,000 where an answer is generated.  What only uses the tokenizer has 100.
 * A query with calls is not compiled (JIT), whatever it costs, and has parallel
 * workers only if it would have them without the calls' cost: see planner.c.
 *
 * Selectivity.  llama_filter as a condition is expected to be true for the share
 * of rows that llama3.filter_selectivity says, or, where that is -1, for which it
 * was true in this database so far (after 100 answers; before, for a third),
 * rounded to a tenth.
 */

\echo Use "CREATE EXTENSION llama3" to load this file. \quit

/* What the planner asks about the functions that run the model: see "Cost" above. */
CREATE FUNCTION llama_support(internal)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_support'
	LANGUAGE C STRICT PARALLEL SAFE;
COMMENT ON FUNCTION llama_support(internal) IS
	'planner support of the functions that run the model: cost and selectivity';

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
	format jsonb DEFAULT NULL,
	format_type regtype DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_generate'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_generate(text, text, integer, float8, float8, integer, float8, bigint, text[], float8, jsonb, regtype, text) IS
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
	format jsonb DEFAULT NULL,
	format_type regtype DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_chat'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_chat(jsonb, integer, float8, float8, integer, float8, bigint, text[], float8, jsonb, regtype, text) IS
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
	format jsonb DEFAULT NULL,
	format_type regtype DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_complete'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_complete(text, integer, float8, float8, integer, float8, bigint, text[], float8, jsonb, regtype, text) IS
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
	format jsonb DEFAULT NULL,
	format_type regtype DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS SETOF text
	AS 'MODULE_PATHNAME', 'llama_generate_stream'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 100 SUPPORT llama_support;
COMMENT ON FUNCTION llama_generate_stream(text, text, integer, float8, float8, integer, float8, bigint, text[], float8, jsonb, regtype, text) IS
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_classify_multi(text, text[], text, float8, text) IS
	'those of 1 to 1000 distinct labels that apply, each on its own: whose probability P(Yes) / (P(Yes) + P(No)) is above the threshold (0 .. 1); in the order given, empty if none; NULL for a NULL input';

CREATE FUNCTION llama_filter(
	input text,
	condition text,
	model text DEFAULT NULL)
	RETURNS boolean
	AS 'MODULE_PATHNAME', 'llama_filter'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_filter(text, text, text) IS
	'does the condition hold for the text: is its probability above 0.5; NULL for a NULL input or condition';

CREATE FUNCTION llama_filter_prob(
	input text,
	condition text,
	model text DEFAULT NULL)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_filter_prob'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_score(text, text, integer, integer, text) IS
	'the text''s rating by a criterion: the expected value, sum of k * P(k), over the whole numbers low .. high, 2 to 101 of them; NULL for a NULL input or criterion';

CREATE FUNCTION llama_rank(
	query text,
	document text,
	model text DEFAULT NULL)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_rank'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_rank(text, text, text) IS
	'the probability (0 .. 1) that the document answers the query: P(Yes) / (P(Yes) + P(No)); for ORDER BY ... DESC; NULL if either is NULL';

CREATE FUNCTION llama_sentiment(
	input text,
	aspect text DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_sentiment'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_sentiment(text, text, text) IS
	'positive, negative, neutral or mixed: the most probable; of what the text says about the aspect, if one is given; NULL for a NULL input';

/* ---------------------------------------------------------------------
 * Structured output
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_extract(
	input text,
	schema jsonb DEFAULT NULL,
	instructions text DEFAULT NULL,
	schema_type regtype DEFAULT NULL,
	max_tokens integer DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS jsonb
	AS 'MODULE_PATHNAME', 'llama_extract'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_extract(text, jsonb, text, regtype, integer, text) IS
	'what the text says, as JSON that is valid for a JSON Schema or, with schema_type, that jsonb_populate_record reads as that type; temperature 0; NULL for a NULL input; 22023 unless one of the two is given, 0A000 for a keyword or type that is not supported, 54000 if max_tokens (llama3.max_tokens) is too small for any answer, and what casting to the type raises (23514: a domain''s CHECK)';

CREATE FUNCTION llama_type_schema(type regtype)
	RETURNS jsonb
	AS 'MODULE_PATHNAME', 'llama_type_schema'
	LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_type_schema(regtype) IS
	'the JSON Schema that format_type and schema_type stand for: of what jsonb_populate_record reads as this type, but for the CHECKs of domains; comments on types and columns are its descriptions; NULL for NULL, 42704 for an unknown type, 0A000 for one that is not supported';

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
	LANGUAGE C STABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_summarize(text, integer, text) IS
	'a summary, for which the model is told max_words (1 .. 10000) and given 32 + 3 * max_words tokens; empty for a blank input, NULL for a NULL one';

CREATE FUNCTION llama_translate(
	input text,
	to_language text,
	from_language text DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_translate'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_translate(text, text, text, text) IS
	'the text in another language, of at most 32 + 3 times its tokens; empty for a blank input, NULL for a NULL input or to_language';

CREATE FUNCTION llama_redact(
	input text,
	categories text[] DEFAULT NULL,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_redact'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_redact(text, text[], text) IS
	'the text with what belongs to the categories (NULL: personal data) replaced by [CATEGORY], of at most 32 + 2 times its tokens; empty for a blank input, NULL for a NULL one';

CREATE FUNCTION llama_fix_grammar(
	input text,
	model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_fix_grammar'
	LANGUAGE C STABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
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
	LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_agg_finalfn(internal) IS
	'of llama_agg and llama_summarize_agg: the state''s answer; the state can go on';

CREATE FUNCTION llama_agg_combinefn(internal, internal)
	RETURNS internal
	AS 'MODULE_PATHNAME', 'llama_agg_combinefn'
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_embed(text, integer, text, text) IS
	'the text''s embedding, of length 1; dimensions keeps the first ones (default: all that the model has); pooling is mean (default) or last; NULL for a NULL input';

CREATE FUNCTION llama_similarity(
	a text,
	b text,
	model text DEFAULT NULL)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_similarity'
	LANGUAGE C STABLE PARALLEL SAFE COST 2000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_similarity(text, text, text) IS
	'the cosine (-1 .. 1) of two texts'' embeddings, pooled by mean; NULL if either is NULL';

/* ---------------------------------------------------------------------
 * Pinned forms: the model named by its checksum, IMMUTABLE
 *
 * What the functions without "_pinned" are, with the model as name@checksum or
 * @checksum right after the arguments that must be given, since it must be too.
 * No type is taken, whose meaning can change: llama_type_schema gives a schema.
 * No setting decides an answer: max_tokens is 256 when it is not given, and an
 * error is one under every llama3.on_error.  Further errors: 22023 the model is
 * NULL or no pin; 55000 the model of that name has another checksum; 42704 no
 * loaded model has the checksum; 54000 llama3.context_limit would end an answer.
 *
 * The planner evaluates a call whose arguments are all constants.
 * ---------------------------------------------------------------------
 */

CREATE FUNCTION llama_generate_pinned(
	prompt text,
	model text,
	system text DEFAULT NULL,
	max_tokens integer DEFAULT NULL,
	temperature double precision DEFAULT NULL,
	top_p double precision DEFAULT NULL,
	top_k integer DEFAULT NULL,
	min_p double precision DEFAULT NULL,
	seed bigint DEFAULT NULL,
	stop text[] DEFAULT NULL,
	repeat_penalty double precision DEFAULT NULL,
	format jsonb DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_generate_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_generate_pinned(text, text, text, integer, float8, float8, integer, float8, bigint, text[], float8, jsonb) IS
	'llama_generate of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_chat_pinned(
	messages jsonb,
	model text,
	max_tokens integer DEFAULT NULL,
	temperature double precision DEFAULT NULL,
	top_p double precision DEFAULT NULL,
	top_k integer DEFAULT NULL,
	min_p double precision DEFAULT NULL,
	seed bigint DEFAULT NULL,
	stop text[] DEFAULT NULL,
	repeat_penalty double precision DEFAULT NULL,
	format jsonb DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_chat_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_chat_pinned(jsonb, text, integer, float8, float8, integer, float8, bigint, text[], float8, jsonb) IS
	'llama_chat of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_complete_pinned(
	prefix text,
	model text,
	max_tokens integer DEFAULT NULL,
	temperature double precision DEFAULT NULL,
	top_p double precision DEFAULT NULL,
	top_k integer DEFAULT NULL,
	min_p double precision DEFAULT NULL,
	seed bigint DEFAULT NULL,
	stop text[] DEFAULT NULL,
	repeat_penalty double precision DEFAULT NULL,
	format jsonb DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_complete_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_complete_pinned(text, text, integer, float8, float8, integer, float8, bigint, text[], float8, jsonb) IS
	'llama_complete of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_classify_pinned(
	input text,
	labels text[],
	model text,
	task text DEFAULT NULL,
	examples jsonb DEFAULT NULL,
	calibrate boolean DEFAULT false)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_classify_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_classify_pinned(text, text[], text, text, jsonb, boolean) IS
	'llama_classify of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_classify_prob_pinned(
	input text,
	labels text[],
	model text,
	task text DEFAULT NULL,
	examples jsonb DEFAULT NULL,
	calibrate boolean DEFAULT false)
	RETURNS double precision[]
	AS 'MODULE_PATHNAME', 'llama_classify_prob_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_classify_prob_pinned(text, text[], text, text, jsonb, boolean) IS
	'llama_classify_prob of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_classify_multi_pinned(
	input text,
	labels text[],
	model text,
	task text DEFAULT NULL,
	threshold double precision DEFAULT 0.5)
	RETURNS text[]
	AS 'MODULE_PATHNAME', 'llama_classify_multi_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_classify_multi_pinned(text, text[], text, text, float8) IS
	'llama_classify_multi of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_filter_pinned(
	input text,
	condition text,
	model text)
	RETURNS boolean
	AS 'MODULE_PATHNAME', 'llama_filter_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_filter_pinned(text, text, text) IS
	'llama_filter of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_filter_prob_pinned(
	input text,
	condition text,
	model text)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_filter_prob_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_filter_prob_pinned(text, text, text) IS
	'llama_filter_prob of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_score_pinned(
	input text,
	criterion text,
	model text,
	low integer DEFAULT 1,
	high integer DEFAULT 5)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_score_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_score_pinned(text, text, text, integer, integer) IS
	'llama_score of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_rank_pinned(
	query text,
	document text,
	model text)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_rank_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_rank_pinned(text, text, text) IS
	'llama_rank of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_sentiment_pinned(
	input text,
	model text,
	aspect text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_sentiment_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_sentiment_pinned(text, text, text) IS
	'llama_sentiment of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_extract_pinned(
	input text,
	schema jsonb,
	model text,
	instructions text DEFAULT NULL,
	max_tokens integer DEFAULT NULL)
	RETURNS jsonb
	AS 'MODULE_PATHNAME', 'llama_extract_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_extract_pinned(text, jsonb, text, text, integer) IS
	'llama_extract of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_summarize_pinned(
	input text,
	model text,
	max_words integer DEFAULT 50)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_summarize_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_summarize_pinned(text, text, integer) IS
	'llama_summarize of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_translate_pinned(
	input text,
	to_language text,
	model text,
	from_language text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_translate_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_translate_pinned(text, text, text, text) IS
	'llama_translate of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_redact_pinned(
	input text,
	model text,
	categories text[] DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_redact_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_redact_pinned(text, text, text[]) IS
	'llama_redact of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_fix_grammar_pinned(
	input text,
	model text)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_fix_grammar_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_fix_grammar_pinned(text, text) IS
	'llama_fix_grammar of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_embed_pinned(
	input text,
	model text,
	dimensions integer DEFAULT NULL,
	pooling text DEFAULT NULL)
	RETURNS real[]
	AS 'MODULE_PATHNAME', 'llama_embed_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_embed_pinned(text, text, integer, text) IS
	'llama_embed of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_similarity_pinned(
	a text,
	b text,
	model text)
	RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_similarity_pinned'
	LANGUAGE C IMMUTABLE PARALLEL SAFE COST 2000 SUPPORT llama_support;
COMMENT ON FUNCTION llama_similarity_pinned(text, text, text) IS
	'llama_similarity of the model that is pinned, name@checksum or @checksum';

CREATE FUNCTION llama_pin(model text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'llama_pin'
	LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION llama_pin(text) IS
	'the pin of a loaded model, name@checksum, which the pinned forms take; errors as of every function that uses a model';

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
	LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 100 SUPPORT llama_support;
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
	OUT drafted_tokens bigint,
	OUT accepted_tokens bigint,
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
	OUT drafted_tokens bigint,
	OUT accepted_tokens bigint,
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
	OUT rows_failed bigint,
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
 *	rows_failed			of these, rows with a NULL that llama3.on_error gave them
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
		   p.started_at, p.rows_total, p.rows_begun, p.rows_done, p.rows_failed,
		   p.calls_made, p.calls_reused, p.prompt_tokens, p.cached_tokens, p.generated_tokens,
		   p.rows_per_second, p.tokens_per_second, p.percent, p.seconds_left
	FROM llama_progress_statements() p
		 LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) p.datid;
COMMENT ON VIEW llama_progress_statements IS
	'progress of running statements whose rows are batched: rows, calls, tokens, time left';
GRANT SELECT ON llama_progress_statements TO PUBLIC;

CREATE FUNCTION llama_stat_result_cache(
	OUT size_bytes bigint,
	OUT used_bytes bigint,
	OUT entries bigint,
	OUT hits bigint,
	OUT misses bigint,
	OUT stored bigint,
	OUT too_large bigint,
	OUT evicted bigint)
	RETURNS record
	AS 'MODULE_PATHNAME', 'llama_stat_result_cache'
	LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION llama_stat_result_cache() IS
	'the cache of answers; see the view llama_stat_result_cache';

CREATE VIEW llama_stat_result_cache AS SELECT * FROM llama_stat_result_cache();
COMMENT ON VIEW llama_stat_result_cache IS
	'the cache of answers: its memory and entries now; since the server started, calls that were answered by it (hits) and that were not (misses), answers that were stored, that were too large for it, and that were evicted for others';
GRANT SELECT ON llama_stat_result_cache TO PUBLIC;

CREATE FUNCTION llama_result_cache_reset()
	RETURNS void
	AS 'MODULE_PATHNAME', 'llama_result_cache_reset'
	LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION llama_result_cache_reset() IS
	'empty the cache of answers, of all databases; its statistics stay';
REVOKE ALL ON FUNCTION llama_result_cache_reset() FROM PUBLIC;

/* ---------------------------------------------------------------------
 * Jobs over tables
 *
 * A job is a row of llama_jobs.  Its kind names the procedure that does it,
 * called by _llama_job_run, which is called by llama_enrich in the caller's
 * session, or by a background worker that is connected as the job's owner.
 *
 * What a kind must keep: its procedure (job bigint) works in transactions of its
 * own, one a batch; the transaction that changes the target also calls
 * _llama_job_advance, so that a crash leaves both or neither.  That returns
 * false when the job is to stop, because it was cancelled.  What the kind needs
 * to go on where it stopped is in resume_at.  A new kind has a WHEN in
 * _llama_job_run and makes its rows with _llama_job_define.
 *
 * A background job that is queued, or running and not attached to a process
 * (_llama_jobs_attached), is started by the launcher, which looks (_llama_jobs_due)
 * in a database when a transaction that called _llama_job_wake has committed
 * there, and in all of them when it starts itself.
 *
 * A job's text runs with the rights of its owner, in a session of the owner,
 * as if typed there.  Everybody may add jobs of his own and change only those
 * (row security).  Grants of columns, not of tables, because who may UPDATE a
 * table, or DELETE from it, may also lock it.
 *
 * Jobs are not in dumps: a restored server shall not begin to work on its own.
 *
 * Names that begin with an underscore are for this script alone.
 * ---------------------------------------------------------------------
 */

CREATE TABLE llama_jobs (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind text NOT NULL,
	owner regrole NOT NULL,
	target regclass NOT NULL,
	spec jsonb NOT NULL,			-- what makes it this job and no other
	options jsonb NOT NULL,			-- how to do it
	settings jsonb NOT NULL,		-- of the session that started it
	background boolean NOT NULL,	-- done by a background worker
	state text NOT NULL DEFAULT 'queued'
		CHECK (state IN ('queued', 'running', 'done', 'cancelled', 'failed', 'forgotten')),
	resume_at jsonb,				-- the kind's own; NULL: at the beginning
	rows_total bigint				-- NULL: not known yet
		CHECK (rows_total >= 0),
	total_is_estimate boolean,
	rows_done bigint NOT NULL DEFAULT 0
		CHECK (rows_done >= 0),
	run_rows bigint NOT NULL DEFAULT 0		-- of rows_done, since run_started_at
		CHECK (run_rows >= 0),
	run_tokens bigint NOT NULL DEFAULT 0
		CHECK (run_tokens >= 0),
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	run_started_at timestamptz		-- when a process last took it up
		CHECK (pg_catalog.isfinite(run_started_at)),
	updated_at timestamptz
		CHECK (pg_catalog.isfinite(updated_at)),
	finished_at timestamptz
		CHECK (pg_catalog.isfinite(finished_at)),
	attempts integer NOT NULL DEFAULT 0		-- of workers, since a batch was committed
		CHECK (attempts BETWEEN 0 AND 1000),
	not_before timestamptz			-- no worker is started earlier
		CHECK (pg_catalog.isfinite(not_before)),
	sqlstate text					-- why it failed
		CHECK (pg_catalog.length(sqlstate) = 5),
	message text
		CHECK (pg_catalog.length(message) <= 2000)
) WITH (fillfactor = 50);
COMMENT ON SEQUENCE llama_jobs_id_seq IS 'internal: numbers of jobs';
COMMENT ON TABLE llama_jobs IS 'jobs over tables, one''s own; see the view llama_progress';
CREATE UNIQUE INDEX llama_jobs_spec_key ON llama_jobs
	(owner, kind, target, pg_catalog.jsonb_hash_extended(spec, 0));

/* Rows that a job has put aside, because they failed or are locked. */
CREATE TABLE llama_job_rows (
	job bigint NOT NULL REFERENCES llama_jobs ON DELETE CASCADE,
	row_key jsonb NOT NULL,			-- primary key's columns, or ctid and xmin
	sqlstate text NOT NULL,			-- 00000: done since
	message text NOT NULL,
	retry boolean NOT NULL,			-- the job comes back to it
	failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (job, row_key)
);
COMMENT ON TABLE llama_job_rows IS 'rows that jobs have put aside; see the view llama_job_errors';

CREATE FUNCTION _llama_me() RETURNS regrole
	LANGUAGE sql STABLE PARALLEL SAFE
	RETURN pg_catalog.quote_ident(CURRENT_USER)::regrole;
COMMENT ON FUNCTION _llama_me() IS 'internal: the current role';

ALTER TABLE llama_jobs ENABLE ROW LEVEL SECURITY;
CREATE POLICY llama_jobs_read ON llama_jobs FOR SELECT
	USING (owner OPERATOR(pg_catalog.=) _llama_me() OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'));
CREATE POLICY llama_jobs_insert ON llama_jobs FOR INSERT WITH CHECK (owner OPERATOR(pg_catalog.=) _llama_me());
CREATE POLICY llama_jobs_update ON llama_jobs FOR UPDATE USING (owner OPERATOR(pg_catalog.=) _llama_me());
GRANT SELECT,
	INSERT (kind, owner, target, spec, options, settings, background),
	UPDATE (options, settings, background, state, resume_at, rows_total, total_is_estimate,
			rows_done, run_rows, run_tokens, run_started_at, updated_at, finished_at, attempts,
			not_before, sqlstate, message)
	ON llama_jobs TO PUBLIC;

ALTER TABLE llama_job_rows ENABLE ROW LEVEL SECURITY;
CREATE POLICY llama_job_rows_read ON llama_job_rows FOR SELECT
	USING (EXISTS (SELECT FROM llama_jobs j WHERE j.id = job));
CREATE POLICY llama_job_rows_insert ON llama_job_rows FOR INSERT
	WITH CHECK (EXISTS (SELECT FROM llama_jobs j WHERE j.id = job AND j.owner OPERATOR(pg_catalog.=) _llama_me()));
CREATE POLICY llama_job_rows_update ON llama_job_rows FOR UPDATE
	USING (EXISTS (SELECT FROM llama_jobs j WHERE j.id = job AND j.owner OPERATOR(pg_catalog.=) _llama_me()));
GRANT SELECT, INSERT (job, row_key, sqlstate, message, retry, failed_at),
	UPDATE (sqlstate, message, retry, failed_at) ON llama_job_rows TO PUBLIC;

CREATE FUNCTION _llama_job_attach(job bigint) RETURNS void
	AS 'MODULE_PATHNAME', 'llama_job_attach' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _llama_job_attach(bigint) IS
	'internal: this process does the job until its transaction fails or _llama_job_detach; 55006 if another one does, 53400 when too many jobs run';

CREATE FUNCTION _llama_refuse_transaction_block(command text) RETURNS void
	AS 'MODULE_PATHNAME', 'llama_refuse_transaction_block' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _llama_refuse_transaction_block(text) IS 'internal: raise 25001 in a transaction block';

CREATE FUNCTION _llama_job_detach() RETURNS void
	AS 'MODULE_PATHNAME', 'llama_job_detach' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _llama_job_detach() IS 'internal: the process''s job is left';

CREATE FUNCTION _llama_job_tokens() RETURNS bigint
	AS 'MODULE_PATHNAME', 'llama_job_tokens' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _llama_job_tokens() IS
	'internal: tokens that this process''s calls have cost since _llama_job_attach';

CREATE FUNCTION _llama_job_rate() RETURNS double precision
	AS 'MODULE_PATHNAME', 'llama_job_rate' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _llama_job_rate() IS 'internal: llama3.job_rows_per_second as it is now, NULL for no limit';

CREATE FUNCTION _llama_job_wake() RETURNS void
	AS 'MODULE_PATHNAME', 'llama_job_wake' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _llama_job_wake() IS
	'internal: when this transaction commits, the launcher looks for jobs in this database; in C: llama_wake_jobs_at_commit';

CREATE FUNCTION _llama_jobs_attached(OUT job bigint, OUT role oid, OUT pid integer)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'llama_jobs_attached' LANGUAGE C VOLATILE STRICT ROWS 4;
COMMENT ON FUNCTION _llama_jobs_attached() IS 'internal: who does which job of this database';

CREATE FUNCTION _llama_job_signal(job bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'llama_job_signal' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _llama_job_signal(bigint) IS
	'internal: cancel the statement of the process that does the job; false when none does, or only another role''s';

CREATE FUNCTION _llama_assigned_columns(assignments text) RETURNS text[]
	AS 'MODULE_PATHNAME', 'llama_assigned_columns' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION _llama_assigned_columns(text) IS
	'internal: columns that the text sets, which must be all that can stand between SET and WHERE in UPDATE, else 42601';

CREATE FUNCTION _llama_check_condition(condition text) RETURNS text
	AS 'MODULE_PATHNAME', 'llama_check_condition' LANGUAGE C IMMUTABLE STRICT;
COMMENT ON FUNCTION _llama_check_condition(text) IS
	'internal: the condition in parentheses; 42601 unless it is one expression';

CREATE FUNCTION _llama_job_advance(job bigint, more_rows bigint, resume_at jsonb) RETURNS boolean
	LANGUAGE sql VOLATILE
BEGIN ATOMIC
	UPDATE llama_jobs j SET
		rows_done = rows_done + more_rows,
		run_rows = run_rows + more_rows,
		run_tokens = _llama_job_tokens(),
		resume_at = _llama_job_advance.resume_at,
		attempts = 0,
		updated_at = pg_catalog.clock_timestamp()
	WHERE id = job RETURNING state = 'running';
END;
COMMENT ON FUNCTION _llama_job_advance(bigint, bigint, jsonb) IS
	'internal: after a batch, in its transaction: what was done, and where to go on; false when the job is to stop';

CREATE FUNCTION _llama_job_target(target regclass) RETURNS text
	AS 'MODULE_PATHNAME', 'llama_job_target' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION _llama_job_target(regclass) IS
	'internal: qualified name of the table, which is locked for UPDATE until the transaction ends; 42P01 when it is gone';

/*
 * Statements of an enrichment.  The rows of a batch are named by a jsonb array
 * of keys, $1.  With a primary key a key holds its columns, and the table is
 * read in their order; without, it holds ctid and xmin, which no other version of a
 * row ever has, and the table is read in ranges of blocks.
 *
 * The user's words in them have the user's search_path, and nothing else does:
 * what is ours names schemas, operators, and the table of each column.  The table
 * has no alias, as the user's words may name it.  Each gives one jsonb.
 */
CREATE TYPE _llama_enrich_texts AS (
	path text,				-- search_path that they have
	key_columns text,		-- of the primary key; NULL: by ctid and xmin
	candidates text,	-- keys of the next $1 rows to do after $2 [and to block $3]
	lock_rows text,			-- of the keys $1 those that are to do and that nobody locks
	lock_rows_now text,		-- the same; 55P03 if somebody locks one
	pending_rows text,		-- of the keys $1 those that are to do
	versions text,			-- the same, each in an array with its row's xmin
	update_rows text,		-- for the keys $1: rows updated, and of them those now done
	count_rows text,		-- all rows to do
	estimate_rows text		-- plan that reads them
);
COMMENT ON TYPE _llama_enrich_texts IS 'internal: the statements of an enrichment';

CREATE FUNCTION _llama_enrich_texts(target regclass, assignments text, where_clause text, path text)
	RETURNS _llama_enrich_texts LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	texts @extschema@._llama_enrich_texts;
	target_name text := @extschema@._llama_job_target(target);
	table_name text := (SELECT quote_ident(c.relname) FROM pg_class c WHERE c.oid = target);
	empty text;
	todo text;
	key text;
	columns text;		-- of the primary key, in its order
	own text;			-- the same, as what they are compared as
	given text;			-- the same of a key e.v
	after text;			-- and of the key $2
	equal text;
	greater text;
	these text;			-- rows of the keys $1
BEGIN
	SELECT string_agg(format('%I IS NULL', c), ' OR ') INTO empty
	FROM unnest(@extschema@._llama_assigned_columns(assignments)) c;
	todo := concat('(', empty, ')', ' AND ' || @extschema@._llama_check_condition(where_clause));

	/*
	 * Columns are compared as the index compares them: by the operators of its
	 * operator classes, which must be of one schema to be in one comparison, and in
	 * the columns' collations.  Types whose jsonb is not their text cannot be read
	 * back, nor floating-point numbers whose text has not all digits.
	 */
	SELECT string_agg(format('%L, %s', k.attname, k.own), ', ' ORDER BY k.o),
		string_agg(format('(%s)::%s', k.own, k.type), ', ' ORDER BY k.o),
		string_agg(format('(e.v OPERATOR(pg_catalog.->>) %L::pg_catalog.text)::%s%s', k.attname, k.type, k.collation), ', ' ORDER BY k.o),
		string_agg(format('($2 OPERATOR(pg_catalog.->>) %L::pg_catalog.text)::%s%s', k.attname, k.type, k.collation), ', ' ORDER BY k.o),
		string_agg(k.own, ', ' ORDER BY k.o), string_agg(quote_ident(k.attname), ', ' ORDER BY k.o), min(k.equal), min(k.greater)
	INTO key, own, given, after, columns, texts.key_columns, equal, greater
	FROM (
		SELECT o, a.attname, format('%s.%I', table_name, a.attname) AS own,
			(SELECT format('%I.%I', n.nspname, t.typname) FROM pg_type t, pg_namespace n
				WHERE t.oid = CASE i.typtype WHEN 'p' THEN a.atttypid ELSE i.oid END AND n.oid = t.typnamespace) AS type,
			(SELECT format(' COLLATE %I.%I', n.nspname, c.collname) FROM pg_collation c, pg_namespace n
				WHERE c.oid = a.attcollation AND n.oid = c.collnamespace) AS collation,
			(SELECT format('OPERATOR(%I.%s)', n.nspname, p.oprname) FROM pg_amop m, pg_operator p, pg_namespace n
				WHERE m.amopfamily = f.opcfamily AND m.amoplefttype = i.oid AND m.amoprighttype = i.oid
					AND m.amopstrategy = 3 AND p.oid = m.amopopr AND n.oid = p.oprnamespace) AS equal,
			(SELECT format('OPERATOR(%I.%s)', n.nspname, p.oprname) FROM pg_amop m, pg_operator p, pg_namespace n
				WHERE m.amopfamily = f.opcfamily AND m.amoplefttype = i.oid AND m.amoprighttype = i.oid
					AND m.amopstrategy = 5 AND p.oid = m.amopopr AND n.oid = p.oprnamespace) AS greater,
			i.oid NOT IN ('json'::regtype, 'jsonb'::regtype, 'record'::regtype, 'anyarray'::regtype)
				AND NOT EXISTS (SELECT FROM pg_cast c WHERE c.castsource = i.oid AND c.casttarget = 'json'::regtype)
				AND (i.oid NOT IN ('float4'::regtype, 'float8'::regtype)
					OR current_setting('extra_float_digits')::integer > 0) AS is_text
		FROM pg_index x, unnest(x.indkey, x.indclass) WITH ORDINALITY k(attnum, opclass, o),
			pg_attribute a, pg_opclass f, pg_type i
		WHERE x.indrelid = target AND x.indisprimary AND x.indisvalid AND o <= x.indnkeyatts
			AND a.attrelid = target AND a.attnum = k.attnum AND f.oid = k.opclass AND i.oid = f.opcintype) k
	HAVING bool_and(k.is_text) AND min(k.equal) = max(k.equal) AND min(k.greater) = max(k.greater);

	IF key IS NOT NULL THEN
		key := 'pg_catalog.jsonb_build_object(' || key || ')';
		these := format('ROW(%s) %s ANY (SELECT %s FROM pg_catalog.jsonb_array_elements($1) AS e(v))', own, equal, given);
		texts.candidates := format(
			'SELECT pg_catalog.jsonb_agg(s.k) FROM (SELECT %s AS k FROM %s WHERE ($2 IS NULL OR ROW(%s) %s ROW(%s)) AND %s ORDER BY %s LIMIT $1) s',
			key, target_name, own, greater, after, todo, columns);
	ELSE
		key := format('pg_catalog.jsonb_build_object(''ctid'', %1$s.ctid, ''xmin'', %1$s.xmin)', table_name);
		these := format('%1$s.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT (e.v OPERATOR(pg_catalog.->>) ''ctid''::pg_catalog.text)::pg_catalog.tid FROM pg_catalog.jsonb_array_elements($1) AS e(v)))'
			' AND %2$s OPERATOR(pg_catalog.=) ANY (SELECT e.v FROM pg_catalog.jsonb_array_elements($1) AS e(v))', table_name, key);
		texts.candidates := format(
			'SELECT pg_catalog.jsonb_agg(s.k) FROM (SELECT %1$s AS k FROM %2$s WHERE %3$s.ctid OPERATOR(pg_catalog.>) ($2 OPERATOR(pg_catalog.->>) ''ctid''::pg_catalog.text)::pg_catalog.tid AND %3$s.ctid OPERATOR(pg_catalog.<=) $3 AND %4$s ORDER BY %3$s.ctid LIMIT $1) s',
			key, target_name, table_name, todo);
	END IF;
	/* NO KEY UPDATE: rows that a foreign key points to are not locked for us. */
	texts.lock_rows := format(
		'SELECT pg_catalog.jsonb_agg(s.k) FROM (SELECT %s AS k FROM %s WHERE %s AND %s FOR NO KEY UPDATE ', key, target_name, these, todo);
	texts.lock_rows_now := texts.lock_rows || 'NOWAIT) s';
	texts.lock_rows := texts.lock_rows || 'SKIP LOCKED) s';
	texts.pending_rows := format('SELECT pg_catalog.jsonb_agg(%s) FROM %s WHERE %s AND %s', key, target_name, these, todo);
	texts.versions := format('SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(%s, %s.xmin)) FROM %s WHERE %s AND %s',
		key, table_name, target_name, these, todo);
	texts.update_rows := format(
		E'WITH done AS (UPDATE %s SET %s\nWHERE %s RETURNING NOT (%s) AS is_full) '
		'SELECT pg_catalog.jsonb_build_object(''done'', pg_catalog.count(*), ''full'', pg_catalog.count(*) FILTER (WHERE done.is_full)) FROM done',
		target_name, assignments, these, empty);
	texts.count_rows := format('SELECT pg_catalog.to_jsonb(pg_catalog.count(*)) FROM %s WHERE %s', target_name, todo);
	texts.estimate_rows := format('EXPLAIN (FORMAT JSON) SELECT FROM %s WHERE %s', target_name, todo);
	texts.path := path;
	RETURN texts;
END $$;
COMMENT ON FUNCTION _llama_enrich_texts(regclass, text, text, text) IS
	'internal: the statements that fill the columns of the table, which is locked for UPDATE';

/* These two end as soon as they have the user's search_path and have used it. */

CREATE FUNCTION _llama_enrich_execute(path text, statement text, keys jsonb) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	result jsonb;
BEGIN
	PERFORM set_config('search_path', path, true);
	EXECUTE statement INTO result USING keys;
	RETURN result;
END $$;
COMMENT ON FUNCTION _llama_enrich_execute(text, text, jsonb) IS
	'internal: what a statement of an enrichment gives for these keys';

/*
 * Keys of the next rows to do.  By key the index gives them in order; a plan
 * that reads and sorts the rest of the table for each batch must not win by a
 * bad estimate of how many rows are to do.
 */
CREATE FUNCTION _llama_enrich_candidates(path text, statement text, n integer, after jsonb, to_block tid)
	RETURNS jsonb LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
	keys jsonb;
BEGIN
	PERFORM set_config('search_path', path, true);
	EXECUTE statement INTO keys USING n, after, to_block;
	RETURN keys;
END $$;
COMMENT ON FUNCTION _llama_enrich_candidates(text, text, integer, jsonb, tid) IS
	'internal: keys of the next rows to do';

CREATE FUNCTION _llama_enrich_explain(texts _llama_enrich_texts) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM @extschema@._llama_enrich_execute(texts.path, 'EXPLAIN (FORMAT JSON) ' || texts.update_rows, '[]'::jsonb);
	PERFORM @extschema@._llama_enrich_execute(texts.path, 'EXPLAIN (FORMAT JSON) ' || texts.lock_rows, '[]'::jsonb);
END $$;
COMMENT ON FUNCTION _llama_enrich_explain(_llama_enrich_texts) IS
	'internal: check names, types and privileges as the statements themselves do';

CREATE FUNCTION _llama_enrich_check(target regclass, assignments text, where_clause text, path text)
	RETURNS void LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	relation record;
	texts @extschema@._llama_enrich_texts;
	column_name text;
BEGIN
	IF pg_is_in_recovery() THEN
		RAISE EXCEPTION 'llama_enrich cannot run during recovery'
			USING ERRCODE = 'read_only_sql_transaction', HINT = 'Call it on the primary server.';
	END IF;
	SELECT c.relname, c.relkind, c.relpersistence INTO relation FROM pg_class c WHERE c.oid = target;
	IF relation.relkind IS NULL OR relation.relkind NOT IN ('r', 'p') THEN
		RAISE EXCEPTION 'cannot enrich "%"', coalesce(relation.relname, target::text)
			USING ERRCODE = 'wrong_object_type', DETAIL = 'It is not a table.',
			HINT = CASE WHEN relation.relkind IN ('v', 'm') THEN 'Name the table behind the view.' END;
	END IF;
	IF relation.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = target) THEN
		RAISE EXCEPTION 'cannot enrich "%"', relation.relname
			USING ERRCODE = 'feature_not_supported', DETAIL = 'Other tables inherit from it.';
	END IF;
	texts := @extschema@._llama_enrich_texts(target, assignments, where_clause, path);
	IF relation.relkind = 'p' AND texts.key_columns IS NULL THEN
		RAISE EXCEPTION 'cannot enrich partitioned table "%" without a primary key', relation.relname
			USING ERRCODE = 'feature_not_supported',
			HINT = 'Add one, or enrich its partitions one by one.';
	END IF;

	SELECT a.attname INTO column_name FROM pg_index i, pg_attribute a
	WHERE i.indrelid = target AND i.indisprimary AND a.attrelid = target AND a.attnum = ANY (i.indkey)
		AND a.attname = ANY (@extschema@._llama_assigned_columns(assignments));
	IF FOUND THEN
		RAISE EXCEPTION 'cannot assign to column "%" of the primary key', column_name
			USING ERRCODE = 'feature_not_supported';
	END IF;
	PERFORM @extschema@._llama_enrich_explain(texts);
	IF NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = target AND NOT a.attnotnull
			AND a.attname = ANY (@extschema@._llama_assigned_columns(assignments))) THEN
		RAISE EXCEPTION 'every assigned column is NOT NULL, so no row is to do'
			USING ERRCODE = 'invalid_parameter_value', DETAIL = 'The rows to do are those with a NULL in an assigned column.';
	END IF;
END $$;
COMMENT ON FUNCTION _llama_enrich_check(regclass, text, text, text) IS
	'internal: raise what keeps the table from being enriched, before anything is written';

/*
 * The row is locked before it is asked who does the job: who takes it up
 * (_llama_job_take) changes the row after he has attached to the job.
 */
CREATE FUNCTION _llama_job_define(kind text, target regclass, spec jsonb, options jsonb, background boolean, path text)
	RETURNS bigint LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	job bigint;
	runner integer;
	settings jsonb;
BEGIN
	SELECT jsonb_object_agg(s.name, CASE s.name WHEN 'search_path' THEN path ELSE s.setting END) INTO settings
	FROM pg_settings s
	WHERE s.name = 'search_path'
		OR s.source = 'session' AND s.context IN ('user', 'superuser')
		AND (s.name LIKE 'llama3.%' OR s.name IN ('DateStyle', 'IntervalStyle', 'TimeZone'));
	LOOP
		INSERT INTO @extschema@.llama_jobs (kind, owner, target, spec, options, settings, background)
		VALUES (kind, @extschema@._llama_me(), target, spec, options, settings, background)
		ON CONFLICT DO NOTHING RETURNING id INTO job;
		IF FOUND THEN
			RETURN job;
		END IF;
		SELECT j.id INTO job FROM @extschema@.llama_jobs j
		WHERE j.owner = @extschema@._llama_me() AND j.kind = kind AND j.target = target AND j.spec = spec
		FOR UPDATE;
		EXIT WHEN FOUND;
	END LOOP;
	SELECT a.pid INTO runner FROM @extschema@._llama_jobs_attached() a
	WHERE a.job = job AND a.role = @extschema@._llama_me();
	IF FOUND THEN
		RAISE EXCEPTION 'job % does this already', job
			USING ERRCODE = 'object_in_use', DETAIL = format('It is being done by process %s.', runner);
	END IF;
	UPDATE @extschema@.llama_jobs j SET options = options, settings = settings,
		background = background, state = 'queued', resume_at = NULL, rows_total = NULL,
		rows_done = 0, run_rows = 0, run_tokens = 0, run_started_at = NULL, updated_at = NULL,
		finished_at = NULL, attempts = 0, not_before = NULL, sqlstate = NULL, message = NULL
	WHERE j.id = job;
	RETURN job;
END $$;
COMMENT ON FUNCTION _llama_job_define(text, regclass, jsonb, jsonb, boolean, text) IS
	'internal: the id of the job''s row, which is new or made ready to begin again; 55006 while it runs';

CREATE FUNCTION _llama_enrich_define(target regclass, assignments text, where_clause text,
	batch_rows integer, rows_per_second double precision, retry_errors boolean, background boolean, path text)
	RETURNS bigint LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	job bigint;
BEGIN
	IF background AND NOT (SELECT r.rolcanlogin FROM pg_roles r WHERE r.oid = @extschema@._llama_me()) THEN
		RAISE EXCEPTION 'role "%" is not permitted to log in', CURRENT_USER
			USING ERRCODE = 'invalid_authorization_specification',
				DETAIL = 'A background job is connected as its owner.', HINT = 'Use CALL llama_enrich.';
	END IF;
	IF target IS NULL OR assignments IS NULL THEN
		RAISE EXCEPTION 'target and assignments must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF batch_rows NOT BETWEEN 1 AND 100000 THEN
		RAISE EXCEPTION 'batch_rows must be between 1 and 100000' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF NOT (rows_per_second > 0 AND rows_per_second <= 1e9) THEN
		RAISE EXCEPTION 'rows_per_second must be positive' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM @extschema@._llama_enrich_check(target, assignments, where_clause, path);
	IF background AND (SELECT c.relpersistence = 't' FROM pg_class c WHERE c.oid = target) THEN
		RAISE EXCEPTION 'cannot enrich temporary table "%" in the background', (SELECT c.relname FROM pg_class c WHERE c.oid = target)
			USING ERRCODE = 'feature_not_supported', HINT = 'Use CALL llama_enrich.';
	END IF;
	job := @extschema@._llama_job_define('enrich'::text, target,
		jsonb_build_object('assignments', assignments, 'where_clause', where_clause),
		jsonb_build_object('batch_rows', coalesce(batch_rows, 500), 'rows_per_second', rows_per_second),
		background, path);
	IF retry_errors THEN
		UPDATE @extschema@.llama_job_rows r SET retry = true WHERE r.job = job AND r.sqlstate <> '00000';
	END IF;
	IF background THEN
		PERFORM @extschema@._llama_job_wake();
	END IF;
	RETURN job;
END $$;
COMMENT ON FUNCTION _llama_enrich_define(regclass, text, text, integer, float8, boolean, boolean, text) IS
	'internal: the id of the job that has these arguments, which are checked';

CREATE FUNCTION _llama_job_put_aside(job bigint, keys jsonb, sqlstate text, message text, retry boolean)
	RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
	INSERT INTO llama_job_rows AS r (job, row_key, sqlstate, message, retry)
	SELECT _llama_job_put_aside.job, v, _llama_job_put_aside.sqlstate, _llama_job_put_aside.message,
		_llama_job_put_aside.retry
	FROM pg_catalog.jsonb_array_elements(keys) AS e(v)
	ON CONFLICT ON CONSTRAINT llama_job_rows_pkey DO UPDATE SET sqlstate = EXCLUDED.sqlstate,
		message = EXCLUDED.message, retry = EXCLUDED.retry, failed_at = pg_catalog.clock_timestamp()
	WHERE (r.sqlstate, r.message, r.retry) IS DISTINCT FROM (EXCLUDED.sqlstate, EXCLUDED.message, EXCLUDED.retry);
END;
COMMENT ON FUNCTION _llama_job_put_aside(bigint, jsonb, text, text, boolean) IS
	'internal: put rows aside, with the reason, for good or to come back to them';

CREATE FUNCTION _llama_job_settle(job bigint, keys jsonb) RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
	UPDATE llama_job_rows r SET sqlstate = '00000', retry = false
	WHERE r.job OPERATOR(pg_catalog.=) _llama_job_settle.job
		AND r.row_key OPERATOR(pg_catalog.=) ANY (SELECT v FROM pg_catalog.jsonb_array_elements(keys) AS e(v));
END;
COMMENT ON FUNCTION _llama_job_settle(bigint, jsonb) IS
	'internal: rows that were put aside need not be any more';

CREATE FUNCTION _llama_keys_except(keys jsonb, others jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
	SELECT pg_catalog.jsonb_agg(s.v)
	FROM (SELECT pg_catalog.jsonb_array_elements(keys)
		EXCEPT SELECT pg_catalog.jsonb_array_elements(others)) s(v);
END;
COMMENT ON FUNCTION _llama_keys_except(jsonb, jsonb) IS 'internal: elements of keys that are not in others, NULL for none';

CREATE FUNCTION _llama_halves(keys jsonb) RETURNS SETOF jsonb LANGUAGE sql IMMUTABLE ROWS 2
BEGIN ATOMIC
	SELECT pg_catalog.jsonb_agg(s.v ORDER BY s.o)
	FROM (SELECT v, o, o OPERATOR(pg_catalog.>) (pg_catalog.jsonb_array_length(keys) OPERATOR(pg_catalog./) 2) AS second
		FROM pg_catalog.jsonb_array_elements(keys) WITH ORDINALITY e(v, o)) s
	GROUP BY s.second ORDER BY s.second;
END;
COMMENT ON FUNCTION _llama_halves(jsonb) IS 'internal: an array, halved';

/*
 * Of rows that are to do and that could not be locked, those that nobody locks:
 * SELECT sees them, but no policy for UPDATE lets them be changed.  Whether
 * a row is locked tells only an error, which says not which.  A row that was the
 * same before and afterwards was to do meanwhile.
 */
CREATE FUNCTION _llama_enrich_refused(texts _llama_enrich_texts, keys jsonb) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	before jsonb;
	locked jsonb;
	after jsonb;
	half jsonb;
	refused jsonb := '[]';
BEGIN
	BEGIN
		before := @extschema@._llama_enrich_execute(texts.path, texts.versions, keys);
		locked := @extschema@._llama_enrich_execute(texts.path, texts.lock_rows_now, keys);
		after := @extschema@._llama_enrich_execute(texts.path, texts.versions, keys);
		RETURN (SELECT @extschema@._llama_keys_except(jsonb_agg(v->0), locked) FROM jsonb_array_elements(after) e(v)
			WHERE before @> jsonb_build_array(v));
	EXCEPTION WHEN lock_not_available THEN
		NULL;
	END;
	IF jsonb_array_length(keys) > 1 THEN
		FOR half IN SELECT @extschema@._llama_halves(keys) LOOP
			refused := refused || coalesce(@extschema@._llama_enrich_refused(texts, half), '[]');
		END LOOP;
	END IF;
	RETURN refused;
END $$;
COMMENT ON FUNCTION _llama_enrich_refused(_llama_enrich_texts, jsonb) IS
	'internal: rows of these keys that policies for UPDATE exclude';

/*
 * Update the rows of these keys in one statement, so that they are one batch.
 * If that fails, in two halves, and so on: a bad row among n costs about as much
 * as n good ones.  SQLSTATEs that say nothing about a row are raised; a missing
 * privilege is one when there is no need of a row to miss it.
 *
 * done: rows updated; changed: rows that need no second look because they are
 * not to do any more, or need one because they are gone from where they were.
 */
CREATE FUNCTION _llama_enrich_rows(job bigint, texts _llama_enrich_texts, keys jsonb, settle boolean,
	OUT done bigint, OUT changed bigint, OUT failed bigint)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	n integer := jsonb_array_length(keys);
	locked jsonb;
	updated jsonb;
	rest jsonb;
	pending jsonb;
	refused jsonb;
	half jsonb;
	part record;
	code text;
	words text;
BEGIN
	done := 0;
	changed := 0;
	failed := 0;
	BEGIN
		locked := @extschema@._llama_enrich_execute(texts.path, texts.lock_rows, keys);
		IF locked IS NOT NULL THEN
			updated := @extschema@._llama_enrich_execute(texts.path, texts.update_rows, locked);
			done := updated->'done';
			changed := updated->'full';
		END IF;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
		IF code = '42501' THEN
			PERFORM @extschema@._llama_enrich_explain(texts);
		ELSIF code <> '55P03' AND left(code, 2) IN ('08', '25', '26', '28', '2D', '34', '3D', '3F',
				'42', '53', '55', '57', '58', '72', 'F0', 'XX') THEN
			RAISE;
		END IF;
	END;

	IF code IS NOT NULL AND n > 1 THEN
		FOR half IN SELECT @extschema@._llama_halves(keys) LOOP
			SELECT * INTO part FROM @extschema@._llama_enrich_rows(job, texts, half, settle);
			done := done + part.done;
			changed := changed + part.changed;
			failed := failed + part.failed;
		END LOOP;
		RETURN;
	END IF;
	IF code IS NOT NULL THEN
		/* A deadlock or a lock timeout is not the row's fault. */
		failed := CASE WHEN code LIKE '40%' OR code = '55P03' THEN 0 ELSE 1 END;
		PERFORM @extschema@._llama_job_put_aside(job, keys, code, words, failed = 0);
		RETURN;
	END IF;

	IF settle AND locked IS NOT NULL THEN
		PERFORM @extschema@._llama_job_settle(job, locked);
	END IF;
	IF coalesce(jsonb_array_length(locked), 0) < n THEN
		rest := @extschema@._llama_keys_except(keys, locked);
		pending := @extschema@._llama_enrich_execute(texts.path, texts.pending_rows, rest);
		IF settle THEN
			PERFORM @extschema@._llama_job_settle(job, rest);
		END IF;
		IF pending IS NOT NULL THEN
			refused := @extschema@._llama_enrich_refused(texts, pending);
			PERFORM @extschema@._llama_job_put_aside(job, refused, '42501'::text,
				'row-level security does not let the row be updated'::text, false);
			PERFORM @extschema@._llama_job_put_aside(job, @extschema@._llama_keys_except(pending, refused), '55P03'::text,
				'row is locked by another transaction'::text, true);
		END IF;
		changed := changed + jsonb_array_length(rest) - coalesce(jsonb_array_length(pending), 0);
	END IF;
END $$;
COMMENT ON FUNCTION _llama_enrich_rows(bigint, _llama_enrich_texts, jsonb, boolean) IS
	'internal: update the rows of these keys';

/*
 * One batch, in the transaction of the caller.  resume_at:
 *	key			columns of the primary key that keys are made of
 *	again		rows that were put aside are looked at, else the table's
 *	after		key of the last row that was looked at
 *	waits		times in a row that all that was left was locked
 *	blocks		without a primary key: read to this block, the table's end when
 *				the pass began; what comes behind it was updated since
 *	range		without a primary key: blocks to read for a batch
 *	changed		without a primary key: there is reason for another pass, since
 *				rows may have moved behind our back
 * finished: the job is done, or to stop.  Else how long to pause before the next.
 */
CREATE FUNCTION _llama_enrich_step(job bigint, path text,
	OUT finished boolean, OUT rows_done bigint, OUT rows_per_second double precision, OUT lock_pause double precision)
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	j @extschema@.llama_jobs;
	texts @extschema@._llama_enrich_texts;
	place jsonb;
	batch integer;
	keys jsonb;
	result record;
	first_block bigint;
	last_block bigint;
	at_end boolean;
	wait boolean := false;
	first_error record;
BEGIN
	SELECT * INTO j FROM @extschema@.llama_jobs WHERE id = job;
	finished := j.state IS DISTINCT FROM 'running';
	rows_done := 0;
	lock_pause := 0;
	rows_per_second := j.options->>'rows_per_second';
	IF finished THEN
		RETURN;
	END IF;
	/* Made for each batch, as tables and columns may be renamed, and keys be dropped. */
	texts := @extschema@._llama_enrich_texts(j.target, j.spec->>'assignments', j.spec->>'where_clause', path);
	/* A deferred constraint's error would come with the commit, and stop the job. */
	SET CONSTRAINTS ALL IMMEDIATE;
	place := j.resume_at;
	IF place IS NULL OR place->>'key' IS DISTINCT FROM texts.key_columns THEN
		place := jsonb_build_object('again', false, 'key', texts.key_columns);
	END IF;
	batch := (j.options->>'batch_rows')::integer;

	IF (place->>'again')::boolean THEN
		SELECT jsonb_agg(s.row_key ORDER BY s.row_key) INTO keys
		FROM (SELECT r.row_key FROM @extschema@.llama_job_rows r
			WHERE r.job = job AND r.retry AND r.row_key > coalesce(place->'after', 'null')
			ORDER BY r.row_key LIMIT batch) s;
		at_end := keys IS NULL;
		place := place || jsonb_build_object('after', keys->-1);
	ELSIF texts.key_columns IS NOT NULL THEN
		keys := @extschema@._llama_enrich_candidates(path, texts.candidates, batch, nullif(place->'after', 'null'), NULL::tid);
		at_end := coalesce(jsonb_array_length(keys), 0) < batch;
		place := place || jsonb_build_object('after', keys->-1);
	ELSE
		IF place->'blocks' IS NULL THEN
			place := place || jsonb_build_object('after', '{"ctid": "(0,0)"}'::jsonb, 'changed', false, 'range', 8, 'blocks',
				pg_relation_size(j.target) / current_setting('block_size')::bigint);
		END IF;
		first_block := split_part(ltrim(place->'after'->>'ctid', '('), ',', 1)::bigint;
		last_block := first_block + (place->>'range')::bigint;
		keys := @extschema@._llama_enrich_candidates(path, texts.candidates, batch, place->'after',
			format('(%s,0)', last_block)::tid);
		IF coalesce(jsonb_array_length(keys), 0) = batch THEN
			place := place || jsonb_build_object('after', keys->-1);
		ELSE
			place := place || jsonb_build_object('after', jsonb_build_object('ctid', format('(%s,0)', last_block)),
				'range', least((place->>'range')::bigint * 2, 65536));
			at_end := last_block >= (place->>'blocks')::bigint;
		END IF;
	END IF;

	IF NOT (place->>'again')::boolean AND keys IS NOT NULL THEN
		/* Those that were put aside have their turn later, or had it. */
		SELECT jsonb_agg(v ORDER BY o) INTO keys
		FROM jsonb_array_elements(keys) WITH ORDINALITY e(v, o)
		WHERE NOT EXISTS (SELECT FROM @extschema@.llama_job_rows r
			WHERE r.job = job AND r.row_key = v AND r.sqlstate <> '00000');
	END IF;
	IF keys IS NOT NULL THEN
		SELECT * INTO result FROM @extschema@._llama_enrich_rows(job, texts, keys, (place->>'again')::boolean);
		rows_done := result.done;
		IF result.changed > 0 THEN
			place := place || '{"changed": true}';
		END IF;
		/* If none of so many can be done it is not the rows' fault. */
		IF result.failed >= 20 AND result.failed = jsonb_array_length(keys)
			AND j.rows_done = 0 AND NOT (place->>'again')::boolean THEN
			SELECT r.sqlstate, r.message INTO first_error FROM @extschema@.llama_job_rows r
			WHERE r.job = job AND r.row_key = keys->0;
			RAISE EXCEPTION '%', first_error.message USING ERRCODE = first_error.sqlstate,
				DETAIL = format('All %s rows of the first batch failed.', result.failed);
		END IF;
	END IF;

	IF at_end AND NOT (place->>'again')::boolean THEN
		place := place || '{"again": true, "after": null}';
	ELSIF at_end THEN
		place := place || '{"after": null}';
		wait := EXISTS (SELECT FROM @extschema@.llama_job_rows r WHERE r.job = job AND r.retry);
		IF NOT wait AND (place->>'changed')::boolean AND texts.key_columns IS NULL THEN
			place := '{"again": false}';
		ELSE
			finished := NOT wait;
		END IF;
	END IF;
	IF wait THEN
		lock_pause := least(0.1 * 2 ^ coalesce((place->>'waits')::integer, 0), 5);
		place := place || jsonb_build_object('waits', least(coalesce((place->>'waits')::integer, 0) + 1, 6));
	ELSIF rows_done > 0 THEN
		place := place - 'waits';
	END IF;
	finished := finished OR NOT coalesce(@extschema@._llama_job_advance(job, rows_done, place), false);
END $$;
COMMENT ON FUNCTION _llama_enrich_step(bigint, text) IS
	'internal: one batch, in the transaction of the caller';

/* In pieces, each with a snapshot of its own, not to keep back vacuum, and with the limits of the moment. */
CREATE FUNCTION _llama_job_pause(n bigint, since timestamptz, rows_per_second double precision, lock_pause double precision)
	RETURNS double precision LANGUAGE sql VOLATILE
BEGIN ATOMIC
	SELECT CASE WHEN s.seconds > 0 THEN least(s.seconds, 0.5) END
	FROM (SELECT greatest(n::double precision / least(rows_per_second, _llama_job_rate()), lock_pause)
		- extract(epoch FROM pg_catalog.clock_timestamp())::double precision
		+ extract(epoch FROM since)::double precision AS seconds) s;
END;
COMMENT ON FUNCTION _llama_job_pause(bigint, timestamptz, float8, float8) IS
	'internal: seconds to sleep now, after n rows that were begun then, until the next look whether to sleep on; NULL: no more';

CREATE FUNCTION _llama_enrich_prepare(job bigint, path text) RETURNS void LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	j @extschema@.llama_jobs;
	texts @extschema@._llama_enrich_texts;
	total bigint;
	failed jsonb;
BEGIN
	SELECT * INTO j FROM @extschema@.llama_jobs WHERE id = job;
	texts := @extschema@._llama_enrich_texts(j.target, j.spec->>'assignments', j.spec->>'where_clause', path);
	IF j.resume_at IS NULL THEN
		/* Rows that failed and that somebody has seen to are no errors any more. */
		SELECT jsonb_agg(r.row_key) INTO failed
		FROM @extschema@.llama_job_rows r WHERE r.job = job AND r.sqlstate <> '00000';
		IF failed IS NOT NULL THEN
			PERFORM @extschema@._llama_job_settle(job, @extschema@._llama_keys_except(failed,
				@extschema@._llama_enrich_execute(path, texts.pending_rows, failed)));
		END IF;
	END IF;
	IF j.rows_total IS NULL THEN
		/* A condition may ask the model: not only to count. */
		IF j.spec->>'where_clause' IS NULL THEN
			total := @extschema@._llama_enrich_execute(path, texts.count_rows, NULL::jsonb);
		ELSE
			total := least((@extschema@._llama_enrich_execute(path, texts.estimate_rows, NULL::jsonb)
				->0->'Plan'->>'Plan Rows')::numeric, 1e18);
		END IF;
		UPDATE @extschema@.llama_jobs SET rows_total = total,
			total_is_estimate = j.spec->>'where_clause' IS NOT NULL WHERE id = job;
	END IF;
END $$;
COMMENT ON FUNCTION _llama_enrich_prepare(bigint, text) IS 'internal: what comes before the first batch';

/*
 * These procedures commit, so they cannot have a search_path of their own: they
 * call, with arguments of the very types, and nothing else.
 */

CREATE PROCEDURE _llama_enrich_run(job bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
	path text := pg_catalog.current_setting('search_path'::pg_catalog.text);
	step record;
	started timestamptz;
	pause double precision;
BEGIN
	PERFORM @extschema@._llama_enrich_prepare(job, path);
	LOOP
		COMMIT;
		SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
		started := pg_catalog.clock_timestamp();
		SELECT * INTO step FROM @extschema@._llama_enrich_step(job, path);
		COMMIT;
		EXIT WHEN step.finished;
		LOOP
			pause := @extschema@._llama_job_pause(step.rows_done, started, step.rows_per_second, step.lock_pause);
			EXIT WHEN pause IS NULL;
			PERFORM pg_catalog.pg_sleep(pause);
		END LOOP;
	END LOOP;
END $$;
COMMENT ON PROCEDURE _llama_enrich_run(bigint) IS 'internal: the procedure of jobs of the kind enrich';

CREATE FUNCTION _llama_job_take(job bigint) RETURNS text LANGUAGE sql VOLATILE
BEGIN ATOMIC
	UPDATE llama_jobs j SET state = 'running', run_started_at = pg_catalog.clock_timestamp(),
		run_rows = 0, run_tokens = 0, updated_at = pg_catalog.clock_timestamp(), sqlstate = NULL, message = NULL
	WHERE j.id OPERATOR(pg_catalog.=) _llama_job_take.job AND j.owner OPERATOR(pg_catalog.=) _llama_me()
		AND j.state IN ('queued', 'running')
	RETURNING j.kind;
END;
COMMENT ON FUNCTION _llama_job_take(bigint) IS 'internal: the job runs; its kind, NULL when it is cancelled or gone';

CREATE FUNCTION _llama_job_done(job bigint) RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
	UPDATE llama_jobs j SET state = 'done', finished_at = pg_catalog.clock_timestamp()
	WHERE j.id OPERATOR(pg_catalog.=) _llama_job_done.job AND j.state OPERATOR(pg_catalog.=) 'running';
END;
COMMENT ON FUNCTION _llama_job_done(bigint) IS 'internal: the job has ended, unless it was cancelled';

CREATE PROCEDURE _llama_job_run(job bigint) LANGUAGE plpgsql AS $$
DECLARE
	kind text;
BEGIN
	PERFORM @extschema@._llama_job_attach(job);
	kind := @extschema@._llama_job_take(job);
	COMMIT;
	CASE kind
		WHEN 'enrich' THEN
			CALL @extschema@._llama_enrich_run(job);
		ELSE
			NULL;		-- cancelled, or gone
	END CASE;
	PERFORM @extschema@._llama_job_done(job);
	COMMIT;
	PERFORM @extschema@._llama_job_detach();
END $$;
COMMENT ON PROCEDURE _llama_job_run(bigint) IS 'internal: do a job of the caller''s, in this process';

CREATE PROCEDURE llama_enrich(
	target regclass,
	assignments text,
	where_clause text DEFAULT NULL,
	batch_rows integer DEFAULT NULL,
	rows_per_second double precision DEFAULT NULL,
	retry_errors boolean DEFAULT NULL)
	LANGUAGE plpgsql AS $$
DECLARE
	job bigint;
BEGIN
	PERFORM @extschema@._llama_refuse_transaction_block('llama_enrich'::pg_catalog.text);
	job := @extschema@._llama_enrich_define(target, assignments, where_clause, batch_rows,
		rows_per_second, retry_errors, false, pg_catalog.current_setting('search_path'::pg_catalog.text));
	COMMIT;
	CALL @extschema@._llama_job_run(job);
END $$;
COMMENT ON PROCEDURE llama_enrich(regclass, text, text, integer, float8, boolean) IS
	'fill columns of a table: UPDATE target SET assignments for the rows where an assigned column IS NULL (and where_clause), committed every batch_rows (1 .. 100000; 500), at most rows_per_second (no limit); rows that fail are left out and told in llama_job_errors, and not tried again without retry_errors; called again it goes on; 42809 not a table, 0A000 a table that it cannot keep track of, 55006 the same job is running, 25001 in a transaction block';

CREATE FUNCTION llama_enrich_start(
	target regclass,
	assignments text,
	where_clause text DEFAULT NULL,
	batch_rows integer DEFAULT NULL,
	rows_per_second double precision DEFAULT NULL,
	retry_errors boolean DEFAULT NULL)
	RETURNS bigint LANGUAGE sql VOLATILE
	RETURN _llama_enrich_define(target, assignments, where_clause, batch_rows, rows_per_second, retry_errors,
		true, pg_catalog.current_setting('search_path'));
COMMENT ON FUNCTION llama_enrich_start(regclass, text, text, integer, float8, boolean) IS
	'llama_enrich in the background, by a worker with the caller''s role and search_path, from the commit on and also after a restart of the server; the job''s number; 28000 for a role that cannot log in';

CREATE FUNCTION llama_job_cancel(job bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE STRICT
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	active boolean;
BEGIN
	UPDATE @extschema@.llama_jobs j SET state = 'cancelled', finished_at = clock_timestamp()
	WHERE j.id = job AND j.state IN ('queued', 'running');
	IF FOUND THEN
		PERFORM @extschema@._llama_job_signal(job);
		RETURN true;
	END IF;
	SELECT j.state IN ('queued', 'running') INTO active FROM @extschema@.llama_jobs j WHERE j.id = job;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'job % does not exist', job USING ERRCODE = 'undefined_object';
	END IF;
	/* Its row could be seen, but not be changed. */
	IF active THEN
		RAISE EXCEPTION 'permission denied for job %', job USING ERRCODE = 'insufficient_privilege';
	END IF;
	RETURN false;
END $$;
COMMENT ON FUNCTION llama_job_cancel(bigint) IS
	'stop a job of one''s own (a superuser: any); finished batches stay; false when it was not to run any more; 42704 no such job, 42501 another''s';

CREATE FUNCTION llama_job_resume(job bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE STRICT
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	j @extschema@.llama_jobs;
BEGIN
	SELECT * INTO j FROM @extschema@.llama_jobs WHERE id = job;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'job % does not exist', job USING ERRCODE = 'undefined_object';
	END IF;
	UPDATE @extschema@.llama_jobs SET state = 'queued', background = true, attempts = 0, not_before = NULL,
		finished_at = NULL, sqlstate = NULL, message = NULL
	WHERE id = job AND (state IN ('cancelled', 'failed') OR NOT background AND state <> 'done')
		AND NOT EXISTS (SELECT FROM @extschema@._llama_jobs_attached() a WHERE a.job = job AND a.role = j.owner);
	IF FOUND THEN
		PERFORM @extschema@._llama_job_wake();
		RETURN true;
	END IF;
	IF j.state IN ('cancelled', 'failed') THEN
		RAISE EXCEPTION 'permission denied for job %', job USING ERRCODE = 'insufficient_privilege';
	END IF;
	RETURN false;
END $$;
COMMENT ON FUNCTION llama_job_resume(bigint) IS
	'do in the background what is left of a job of one''s own that was cancelled, has failed or was interrupted; false when there is nothing to resume; 42704 no such job, 42501 another''s';

/*
 * Nobody has the right to DELETE: the owner marks his job, and this deletes what
 * is marked.  It has no argument that could name another's.
 */
CREATE FUNCTION _llama_jobs_sweep() RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	DELETE FROM llama_jobs WHERE state = 'forgotten';
END;
COMMENT ON FUNCTION _llama_jobs_sweep() IS 'internal: delete the jobs that their owners have marked';

CREATE FUNCTION llama_job_forget(job bigint) RETURNS void LANGUAGE plpgsql VOLATILE STRICT
	SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	j @extschema@.llama_jobs;
BEGIN
	SELECT * INTO j FROM @extschema@.llama_jobs WHERE id = job;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'job % does not exist', job USING ERRCODE = 'undefined_object';
	END IF;
	IF j.background AND j.state IN ('queued', 'running')
		OR EXISTS (SELECT FROM @extschema@._llama_jobs_attached() a WHERE a.job = job AND a.role = j.owner) THEN
		RAISE EXCEPTION 'job % is not at its end', job
			USING ERRCODE = 'object_in_use', HINT = 'Cancel it first, with llama_job_cancel.';
	END IF;
	UPDATE @extschema@.llama_jobs SET state = 'forgotten' WHERE id = job;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'permission denied for job %', job USING ERRCODE = 'insufficient_privilege';
	END IF;
	PERFORM @extschema@._llama_jobs_sweep();
END $$;
COMMENT ON FUNCTION llama_job_forget(bigint) IS
	'remove a job of one''s own that is at its end, and its errors; 55006 while it is to run, 42704 no such job, 42501 another''s';

/*
 * What background workers and the launcher call.  The launcher looks as a
 * superuser: nothing here is looked for by name when it runs (a view, and bodies
 * that were parsed when they were made), and it calls by exact signature.  It
 * looks at each job in a subtransaction, as owners may write nearly all of a job's
 * row, and may hold it locked.
 */

CREATE VIEW _llama_jobs_due WITH (security_invoker = true) AS
	SELECT j.id AS job, j.owner::oid AS role, greatest(j.not_before, j.created_at) AS at
	FROM llama_jobs j
	WHERE j.background AND j.state IN ('queued', 'running')
		AND NOT EXISTS (SELECT FROM _llama_jobs_attached() a WHERE a.job = j.id AND a.role = j.owner::oid)
	ORDER BY 3, 1;
COMMENT ON VIEW _llama_jobs_due IS 'internal: background jobs that nobody does, and when to start a worker';

CREATE FUNCTION _llama_job_look(job bigint, no_room boolean) RETURNS boolean LANGUAGE sql VOLATILE
BEGIN ATOMIC
	SELECT FROM llama_jobs j WHERE j.id = job FOR NO KEY UPDATE NOWAIT;
	UPDATE llama_jobs j SET
		/* What can never run has failed. */
		state = CASE WHEN x.why IS NULL THEN j.state ELSE 'failed' END,
		finished_at = CASE WHEN x.why IS NOT NULL THEN pg_catalog.clock_timestamp() END,
		/* What the launcher could not start last time has not been tried. */
		attempts = CASE WHEN x.why IS NULL THEN 0 ELSE j.attempts END,
		not_before = CASE WHEN x.why IS NOT NULL THEN j.not_before END,
		sqlstate = coalesce(x.why[1], '53400'),
		message = coalesce(x.why[2], 'waiting for a free process: max_worker_processes is reached')
	FROM (SELECT l.id, CASE WHEN r.oid IS NULL THEN ARRAY['42704', 'the owner of the job does not exist any more']
				WHEN NOT r.rolcanlogin
					THEN ARRAY['28000', pg_catalog.format('role "%s" is not permitted to log in', r.rolname)]
				WHEN NOT pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT')
					THEN ARRAY['42501', pg_catalog.format('role "%s" may not connect to the database', r.rolname)]
				WHEN c.oid IS NULL THEN ARRAY['42P01', 'the table does not exist any more']
				WHEN l.attempts >= 8 THEN ARRAY[coalesce(l.sqlstate, '57P01'), pg_catalog.concat_ws(': ',
					pg_catalog.format('given up after %s attempts without a finished batch', l.attempts),
					pg_catalog.left(l.message, 1000))]
			END AS why
		FROM llama_jobs l JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
			LEFT JOIN pg_catalog.pg_roles r ON r.oid = l.owner::oid
			LEFT JOIN pg_catalog.pg_class c ON c.oid = l.target::oid
		WHERE l.id = job) x
	WHERE j.id = x.id AND (x.why IS NOT NULL OR no_room);
	SELECT EXISTS (SELECT FROM llama_jobs j WHERE j.id = job AND j.background AND j.state IN ('queued', 'running'));
END;
COMMENT ON FUNCTION _llama_job_look(bigint, boolean) IS
	'internal: may the job run? no_room: there was no free process last time; 55P03 when somebody has locked its row';

CREATE FUNCTION _llama_job_note_start(job bigint) RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
	UPDATE llama_jobs SET attempts = attempts + 1,
		not_before = pg_catalog.clock_timestamp()
			+ least(pg_catalog.power(2, least(attempts, 6)), 60) * interval '1 second'
	WHERE id = job;
END;
COMMENT ON FUNCTION _llama_job_note_start(bigint) IS
	'internal: a worker is about to be started; the next one, should it fail, has to wait longer each time';

CREATE FUNCTION _llama_job_note_error(job bigint, sqlstate text, message text) RETURNS void LANGUAGE sql VOLATILE
BEGIN ATOMIC
	UPDATE llama_jobs j SET
		state = coalesce(n.state, j.state),
		finished_at = CASE WHEN n.state IS NOT NULL THEN pg_catalog.clock_timestamp() END,
		sqlstate = _llama_job_note_error.sqlstate,
		message = pg_catalog.left(_llama_job_note_error.message, 1000)
	FROM (SELECT CASE
			WHEN _llama_job_note_error.sqlstate = '57014' THEN 'cancelled'
			WHEN pg_catalog.left(_llama_job_note_error.sqlstate, 2) NOT IN ('08', '40', '53', '57', '58')
				AND _llama_job_note_error.sqlstate NOT IN ('55006', '55P03') THEN 'failed'
			END AS state) n
	WHERE j.id = job AND j.state IN ('queued', 'running')
		AND NOT EXISTS (SELECT FROM _llama_jobs_attached() a WHERE a.job = j.id AND a.role = j.owner::oid);
END;
COMMENT ON FUNCTION _llama_job_note_error(bigint, text, text) IS
	'internal: a worker ended with this error: the job is cancelled, has failed, or is tried again if that may help';

CREATE VIEW llama_job_errors WITH (security_invoker = true) AS
	SELECT r.job, j.target, r.row_key, r.sqlstate, r.message, r.retry, r.failed_at
	FROM llama_job_rows r JOIN llama_jobs j ON j.id = r.job
	WHERE r.sqlstate <> '00000';
COMMENT ON VIEW llama_job_errors IS
	'rows that jobs could not do, by primary key (else ctid and xmin), and why; retry: the job comes back to it';
GRANT SELECT ON llama_job_errors TO PUBLIC;

CREATE FUNCTION _llama_time_left(seconds double precision) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE WHEN seconds BETWEEN 0 AND 1e11::double precision THEN pg_catalog.make_interval(secs => seconds) END;
COMMENT ON FUNCTION _llama_time_left(float8) IS 'internal: as an interval, NULL for more than 3,000 years';

CREATE VIEW llama_progress WITH (security_invoker = true) AS
	SELECT j.id AS job, a.pid, j.kind, j.owner, j.target,
		   CASE WHEN j.state IN ('queued', 'running') AND a.pid IS NULL
				THEN CASE WHEN j.background THEN 'queued' ELSE 'interrupted' END
				ELSE j.state END AS state,
		   j.rows_done,
		   greatest(j.rows_total, j.rows_done) AS rows_total,
		   j.total_is_estimate,
		   e.failed AS rows_failed,
		   e.locked AS rows_locked,
		   j.run_rows / t.seconds AS rows_per_second,
		   j.run_tokens / t.seconds AS tokens_per_second,
		   CASE WHEN a.pid IS NOT NULL AND j.run_rows > 0
				THEN _llama_time_left(greatest(j.rows_total::float8 - j.rows_done - e.failed, 0) * t.seconds / j.run_rows)
				END AS time_left,
		   j.created_at, j.run_started_at AS started_at, j.updated_at, j.finished_at, j.sqlstate, j.message
	FROM llama_jobs j
		 LEFT JOIN _llama_jobs_attached() a ON a.job = j.id AND a.role = j.owner::oid
		 CROSS JOIN LATERAL (SELECT nullif(extract(epoch FROM j.updated_at) - extract(epoch FROM j.run_started_at), 0)::float8 AS seconds) t
		 CROSS JOIN LATERAL (
			SELECT pg_catalog.count(*) FILTER (WHERE NOT r.retry) AS failed,
				   pg_catalog.count(*) FILTER (WHERE r.retry) AS locked
			FROM llama_job_rows r WHERE r.job = j.id AND r.sqlstate <> '00000') e
	UNION ALL
	SELECT NULL, p.pid, 'statement', p.usesysid::regrole, NULL, 'running',
		   p.rows_done, p.rows_total, true, p.rows_failed, NULL, p.rows_per_second, p.tokens_per_second,
		   _llama_time_left(p.seconds_left),
		   NULL, p.started_at, NULL, NULL, NULL, NULL
	FROM llama_progress_statements() p
	WHERE p.datid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
		AND NOT EXISTS (SELECT FROM _llama_jobs_attached() a WHERE a.pid = p.pid);
COMMENT ON VIEW llama_progress IS
	'jobs over tables, as of their last committed batch, one''s own or with pg_read_all_stats all of this database; and other statements that run now';
GRANT SELECT ON llama_progress TO PUBLIC;

/* ---------------------------------------------------------------------
 * Columns in step with their source
 *
 * What a sync is made of is told in src/postgres/sync.h.  The tables are read
 * and written by these functions only, as their owner, after they have checked
 * that the caller may act for the owner of the table.  Everybody may read the
 * registry, as pg_dump does: it tells names, which are everybody's to see.
 * llama_sync_runs holds keys and messages, and is in no dump.
 * ---------------------------------------------------------------------
 */

CREATE TABLE llama_sync_registry (
	id uuid PRIMARY KEY,
	target regclass NOT NULL,
	column_name name NOT NULL,
	definition regclass NOT NULL UNIQUE,
	queue regclass NOT NULL,
	search_path text NOT NULL,
	batch_rows integer NOT NULL,
	background boolean NOT NULL,
	paused boolean NOT NULL DEFAULT false,
	fill text);
COMMENT ON TABLE llama_sync_registry IS
	'what llama_syncs shows; written by the functions of llama_sync alone';
GRANT SELECT ON llama_sync_registry TO PUBLIC;
/* A name of what is gone would be a number, and in another database somebody else's. */
SELECT pg_catalog.pg_extension_config_dump('llama_sync_registry',
	'WHERE 3 OPERATOR(pg_catalog.=) (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c'
	' WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY[target, definition, queue]::pg_catalog.oid[]))');

CREATE TABLE llama_sync_runs (
	id uuid PRIMARY KEY REFERENCES llama_sync_registry ON DELETE CASCADE,
	position text[],
	rows_filled bigint NOT NULL DEFAULT 0,
	run_rows bigint,
	run_started timestamptz,
	run_ended timestamptz,
	sqlstate text,
	message text);
COMMENT ON TABLE llama_sync_runs IS
	'what llama_sync_lag shows, and where filling stands; written by the functions of llama_sync alone';

CREATE FUNCTION llama_sync(
	target regclass,
	column_name name,
	expression text,
	initial text DEFAULT 'null',
	batch_rows integer DEFAULT 200,
	source_columns name[] DEFAULT NULL,
	background boolean DEFAULT true)
	RETURNS void
	AS 'MODULE_PATHNAME', 'llama_sync'
	LANGUAGE C;
COMMENT ON FUNCTION llama_sync(regclass, name, text, text, integer, name[], boolean) IS
	'keep a column in step with an expression over other columns of its row: triggers queue changed rows, a background worker fills them; initial: rows that are there already and are filled too, null (whose column is NULL), all or none; batch_rows 1 .. 100000; source_columns: columns whose changes count besides those that the expression reads; background: false leaves the filling to llama_sync_run; 42501 for who does not own the table, 55000 without primary key or for a partitioned, inherited or temporary table, 42710 if the column is kept already';

CREATE PROCEDURE llama_sync_run(target regclass DEFAULT NULL, column_name name DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'llama_sync_run'
	LANGUAGE C;
COMMENT ON PROCEDURE llama_sync_run(regclass, name) IS
	'fill what is queued, in batches that are committed one by one, and return when it is done: of a column, of a table (column_name NULL), or of all that the caller may (target NULL); rows locked by others are left; 2D000 in a transaction block; an error that is no row''s ends it and is raised';

CREATE FUNCTION llama_sync_pause(target regclass, column_name name)
	RETURNS void
	AS 'MODULE_PATHNAME', 'llama_sync_pause'
	LANGUAGE C;
COMMENT ON FUNCTION llama_sync_pause(regclass, name) IS
	'stop filling the column; changes are still queued; 42704 if it is not kept in step';

CREATE FUNCTION llama_sync_resume(target regclass, column_name name)
	RETURNS void
	AS 'MODULE_PATHNAME', 'llama_sync_resume'
	LANGUAGE C;
COMMENT ON FUNCTION llama_sync_resume(regclass, name) IS
	'go on filling the column after llama_sync_pause, or now after an error; 42704 if it is not kept in step';

CREATE FUNCTION llama_sync_retry(target regclass, column_name name)
	RETURNS bigint
	AS 'MODULE_PATHNAME', 'llama_sync_retry'
	LANGUAGE C;
COMMENT ON FUNCTION llama_sync_retry(regclass, name) IS
	'queue the rows that failed once more and return their number; 42704 if the column is not kept in step';

CREATE FUNCTION llama_sync_remove(target regclass, column_name name)
	RETURNS void
	AS 'MODULE_PATHNAME', 'llama_sync_remove'
	LANGUAGE C;
COMMENT ON FUNCTION llama_sync_remove(regclass, name) IS
	'remove triggers, queue and definition; the column keeps its values; 42704 if it is not kept in step';

CREATE FUNCTION _llama_sync_changed()
	RETURNS trigger
	AS 'MODULE_PATHNAME', 'llama_sync_changed'
	LANGUAGE C;
COMMENT ON FUNCTION _llama_sync_changed() IS
	'internal: trigger of llama_sync: queues the keys of changed rows';

CREATE FUNCTION _llama_sync_differ(VARIADIC "any")
	RETURNS boolean
	AS 'MODULE_PATHNAME', 'llama_sync_differ'
	LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION _llama_sync_differ("any") IS
	'internal: whether the bytes of a row''s columns, the first half of the arguments, are others than those of the second half; for the triggers of llama_sync';

CREATE FUNCTION llama_syncs(
	OUT target regclass,
	OUT column_name name,
	OUT expression text,
	OUT source_columns name[],
	OUT key_columns name[],
	OUT batch_rows integer,
	OUT background boolean,
	OUT state text,
	OUT owner regrole,
	OUT definition regclass,
	OUT queue regclass)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'llama_syncs'
	LANGUAGE C ROWS 4;
COMMENT ON FUNCTION llama_syncs() IS
	'the rows of the view llama_syncs';
CREATE VIEW llama_syncs AS SELECT * FROM llama_syncs();
COMMENT ON VIEW llama_syncs IS
	'columns that are kept in step, of tables that the role owns; state: filling (rows that were there before), active, paused or broken (see llama_sync_lag)';
GRANT SELECT ON llama_syncs TO PUBLIC;

CREATE FUNCTION llama_sync_lag(
	OUT target regclass,
	OUT column_name name,
	OUT pending bigint,
	OUT oldest_pending timestamptz,
	OUT failed bigint,
	OUT filling boolean,
	OUT rows_filled bigint,
	OUT last_run timestamptz,
	OUT rows_per_second float8,
	OUT sqlstate text,
	OUT message text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'llama_sync_lag'
	LANGUAGE C ROWS 4;
COMMENT ON FUNCTION llama_sync_lag() IS
	'the rows of the view llama_sync_lag';
CREATE VIEW llama_sync_lag AS SELECT * FROM llama_sync_lag();
COMMENT ON VIEW llama_sync_lag IS
	'how far columns are behind: rows that wait and since when, rows that failed, whether rows that were there before are still to be queued (they are not counted as pending), and the last run with its error';
GRANT SELECT ON llama_sync_lag TO PUBLIC;

CREATE FUNCTION llama_sync_errors(
	OUT target regclass,
	OUT column_name name,
	OUT key jsonb,
	OUT sqlstate text,
	OUT message text,
	OUT failed_at timestamptz)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'llama_sync_errors'
	LANGUAGE C ROWS 100;
COMMENT ON FUNCTION llama_sync_errors() IS
	'the rows of the view llama_sync_errors';
CREATE VIEW llama_sync_errors AS SELECT * FROM llama_sync_errors();
COMMENT ON VIEW llama_sync_errors IS
	'rows that could not be filled, with the error; they are tried again when a source column changes, or after llama_sync_retry';
GRANT SELECT ON llama_sync_errors TO PUBLIC;
