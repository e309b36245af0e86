# What a statement over many rows has done so far, as others see it and as
# EXPLAIN (ANALYZE) tells when it is done; also in parallel queries.

use strict;
use warnings;
use lib '.', 't';
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
make_model('slow.gguf', 'slow');
my $node = start_node('main', "llama3.models = 'tiny.gguf, slow.gguf'", "llama3.default_model = 'tiny'");
$node->safe_psql('postgres', q{
	-- some rows a page, so that processes share them
	CREATE TABLE many AS SELECT i AS id, i % 20 AS g, i::text AS x, repeat('-', 1000) AS fill FROM generate_series(1, 60) i;
	ANALYZE many;
	CREATE ROLE onlooker LOGIN});

# The view's columns, from another session.
sub progress
{
	my ($columns, @options) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM llama_progress_statements p", @options);
}
sub nobody_runs
{
	my ($what) = @_;
	ok(wait_until('no statement is left', sub { progress('count(*)') eq '0' }), "$what: no entry is left") or diag(progress('*'));
}
is(progress('count(*)'), '0', 'nothing runs, no rows');

# ------------------------------------------------------------------ counters
my $session = $node->background_psql('postgres', on_error_stop => 1);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
sub with_cursor
{
	my ($query, $n_rows, $columns) = @_;
	$session->query_safe("BEGIN; DECLARE c CURSOR FOR $query; MOVE $n_rows IN c");
	my $seen = progress($columns);
	$session->query_safe('CLOSE c; COMMIT');
	return $seen;
}
my $rows = 'rows_total, rows_begun, rows_done';
is(with_cursor("SELECT llama_filter(x, 'a') FROM many", 0, "$rows, percent, seconds_left"), '60|0|0|0|',
	'before the first row');
is(with_cursor("SELECT llama_filter(x, 'a') FROM many", 5, "pid, datname, usename, $rows, calls_made, calls_reused"),
	"$pid|postgres|" . $node->safe_psql('postgres', 'SELECT current_user') . '|60|10|5|10|0', 'rows that are in work and done');
is(with_cursor("SELECT llama_filter(x, 'a') FROM many", 15, "percent, rows_per_second > 0, tokens_per_second > 0,
	round((seconds_left * rows_per_second)::numeric), prompt_tokens > cached_tokens, generated_tokens"),
	'25|t|t|45|t|0', 'what follows from them');
is(with_cursor("SELECT llama_complete(g::text, 1) FROM many", 60, "$rows, calls_made + calls_reused, calls_reused > 0, generated_tokens = calls_made"),
	'60|60|60|60|t|t', 'equal calls are made once');
# As many rows as there are outermost nodes' rows; calls are everybody's.
is(with_cursor("SELECT llama_filter(x, 'a') FROM many WHERE llama_filter(x, 'b') IS NOT NULL", 2, 'rows_begun, rows_done, calls_made'),
	'5|2|10', 'the outermost node tells the rows, all tell the calls');
is(with_cursor("SELECT llama_filter(x, 'a') FROM many a WHERE id <= 2 UNION ALL SELECT llama_filter(x, 'b') FROM many b WHERE id <= 3", 5, "$rows, calls_made"),
	'5|5|5|5', 'nodes beside each other have their rows added');
is(with_cursor("SELECT f FROM (WITH c AS MATERIALIZED (SELECT llama_filter(x, 'a') f FROM many) SELECT * FROM c) s", 5, "$rows, calls_made"),
	'60|10|5|10', 'rows of a common table expression');
$node->safe_psql('postgres', q{CREATE FUNCTION inner_count(i int) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE n bigint;
	BEGIN
		SELECT count(llama_filter(x || i, 'inner')) INTO n FROM many WHERE id <= 7;
		RETURN n;
	END $$});
is(with_cursor("SELECT llama_filter(x, 'a'), inner_count(id) FROM many OFFSET 0", 1, "$rows, calls_made"), '60|4|1|11',
	'a statement inside of another adds its calls, not its rows');
is(with_cursor("SELECT inner_count(id) FROM many", 1, 'count(*)'), '0', 'and is gone when it has ended');
# Rows that llama3.on_error leaves without an answer.
$node->safe_psql('postgres', "CREATE TABLE long AS SELECT i AS id, repeat('word ', CASE WHEN i % 3 = 0 THEN 5000 ELSE 1 END) || i AS x FROM generate_series(1, 9) i;
	INSERT INTO long VALUES (10, NULL); ANALYZE long");
$session->query_safe("SET llama3.on_error = 'null'; SET client_min_messages = error");
is(with_cursor("SELECT llama_filter(x, 'a'), llama_filter(x, 'b') FROM long", 10, 'rows_done, rows_failed'), '10|3',
	'rows that failed, of two calls once');
is(with_cursor("SELECT count(llama_filter(x, 'a')) FROM long WHERE id > 6", 1,
	'(SELECT s.rows_failed FROM llama_progress s WHERE s.pid = p.pid), rows_failed'), '1|1', 'also in llama_progress');
$session->query_safe('RESET llama3.on_error; RESET client_min_messages');
# Estimates that were too low, or are not there.
$node->safe_psql('postgres', "CREATE TABLE grown AS SELECT 'a' AS x; ANALYZE grown; ALTER TABLE grown SET (autovacuum_enabled = off);
	INSERT INTO grown SELECT i::text FROM generate_series(1, 200) i");
is(with_cursor("SELECT llama_filter(x, 'a') FROM grown", 150, "rows_total >= rows_begun, rows_begun > 150, rows_done, percent <= 100"), 't|t|150|t',
	'there are more rows than were expected');
is(with_cursor("SELECT (SELECT count(*) FROM many b WHERE b.id <= a.id AND llama_filter(b.x, a.x) IS NOT NULL) FROM many a", 3, "$rows, percent, seconds_left"),
	'|6|6||', 'rows of a subplan with arguments: no estimate');

# ---------------------------------------------------------------- who sees it
$session->query_safe("BEGIN; DECLARE c CURSOR FOR SELECT llama_filter(x, 'a') FROM many; MOVE 1 IN c");
is(progress('pid, rows_done', extra_params => [ '-U', 'onlooker' ]), "$pid|1", 'everybody sees it');
is($session->query_safe("SELECT count(llama_filter(x, 'b')) FROM many; SELECT rows_done, calls_made FROM llama_progress_statements"),
	"60\n1|64", 'what a session runs beside its cursor is added to it');
$session->query_safe('ROLLBACK');

# ------------------------------------------------------------ it always ends
nobody_runs('a closed cursor');
my $failing = "SELECT count(llama_classify(x, CASE WHEN id < 20 THEN '{p,q}'::text[] ELSE '{p}' END)) FROM many";
$node->psql('postgres', $failing);
nobody_runs('an error');
$session->query_safe("BEGIN; SAVEPOINT s; DECLARE c CURSOR FOR SELECT llama_filter(x, 'a') FROM many; MOVE 1 IN c");
is(progress('count(*)'), '1', 'a cursor after a savepoint');
is($session->query_safe('ROLLBACK TO s; SELECT count(*) FROM llama_progress_statements; COMMIT'), '0', 'and a rollback to it');
is($session->query_safe(q{
	DO $$
	DECLARE n int := 0;
	BEGIN
		BEGIN
			PERFORM llama_classify(x, CASE WHEN id < 20 THEN '{p,q}'::text[] ELSE '{p}' END) FROM many;
		EXCEPTION WHEN invalid_parameter_value THEN
			SELECT count(*) INTO n FROM llama_progress_statements;
		END;
		PERFORM set_config('test.n', n::text, false);
	END $$;
	SELECT current_setting('test.n')}), '0', 'an error that is caught');
my $long = "SELECT count(llama_complete(x, max_tokens => 3000, repeat_penalty => 0.1, model => 'slow')) FROM many";
for my $how ('pg_cancel_backend', 'pg_terminate_backend')
{
	my $client = spawn_sql($node, $long);
	ok(wait_until('all have begun', sub { progress('rows_begun = 60 AND rows_done = 0') eq 't' }),
		'what will be read to its end begins at full width');
	progress("$how(pid)");
	finish_sql($client);
	nobody_runs($how);
}

# A literal within a literal.
sub quoted { return $_[0] =~ s/'/''/gr; }

# A statement that is run to its end, whatever takes its rows; others may stop.
my $answer = "llama_complete(x, max_tokens => 3000, repeat_penalty => 0.1, model => 'slow') AS answer";
my $lines = "SELECT id, $answer FROM many";
$node->safe_psql('postgres', "CREATE FUNCTION all_lines() RETURNS TABLE (id int, answer text) LANGUAGE plpgsql AS
	'BEGIN RETURN QUERY SELECT many.id, " . quoted($answer) . " FROM many; END';
	CREATE FUNCTION one_line() RETURNS void LANGUAGE plpgsql AS
	'DECLARE line record; BEGIN SELECT " . quoted($answer) . " INTO line FROM many; END'");
my %begun = (
	$lines => 60,
	"CREATE TABLE answers AS $lines" => 60,
	"COPY ($lines) TO STDOUT" => 60,
	'SELECT * FROM all_lines()' => 60,
	"$lines UNION ALL $lines" => 60,
	'SELECT one_line()' => 4,
	"BEGIN; DECLARE c CURSOR FOR $lines; FETCH 1 FROM c" => 4,
	"$lines WHERE llama_filter(x, 'a', 'slow') IS NOT NULL LIMIT 5" => 5);
for my $statement (sort keys %begun)
{
	my $client = spawn_sql($node, $statement);
	ok(wait_until('rows have begun', sub { progress("rows_begun = $begun{$statement} AND rows_done = 0") eq 't' }),
		"begins $begun{$statement} rows: $statement") or diag(progress('*'));
	progress('pg_cancel_backend(pid)');
	finish_sql($client);
	nobody_runs($statement);
}
$session->query_safe("BEGIN; DECLARE c CURSOR FOR SELECT llama_filter(x, 'a') FROM many; MOVE 1 IN c");
$session->quit;
nobody_runs('a session that ends');

# ------------------------------------------------------------------- parallel
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; '
  . 'SET max_parallel_workers_per_gather = 2;';
$node->safe_psql('postgres', 'ALTER TABLE many SET (parallel_workers = 2)');
my $alone = 'SET parallel_leader_participation = off;';

# All batch nodes of a plan, from the top.
sub batch_nodes
{
	my ($plan) = @_;
	return (($plan->{'Custom Plan Provider'} // '') eq 'Llama Batch' ? $plan : (), map { batch_nodes($_) } @{ $plan->{Plans} // [] });
}
sub explain
{
	my ($settings, $query) = @_;
	return decode_json($node->safe_psql('postgres', "$settings EXPLAIN (ANALYZE, FORMAT json) $query"))->[0]{Plan};
}
my $query = 'SELECT llama_complete(x, 2) FROM many WHERE llama_complete(x, 1) IS NOT NULL';
# The node below the Gather is run again for each outer row.
my $again = 'SET enable_material = off; SET enable_hashjoin = off; SET enable_mergejoin = off;';
my $twice = 'SELECT * FROM generate_series(1, 2) s LEFT JOIN (SELECT llama_complete(x, 3) FROM many WHERE id > 30 OFFSET 0) b ON s < 4';
my @single = batch_nodes(explain('SET max_parallel_workers_per_gather = 0;', $query));
for my $settings ($parallel, "$parallel $alone")
{
	my $what = $settings =~ /leader/ ? 'workers alone' : 'workers and leader';
	my $plan = explain($settings, $query);
	is($plan->{'Node Type'}, 'Gather', "$what: the plan is parallel");
	my @nodes = batch_nodes($plan);
	for my $i (0, 1)
	{
		is($nodes[$i]{$_}, $single[$i]{$_}, "$what, node $i: $_ as in one process") for 'Calls Made', 'Calls Reused', 'Prompt Tokens', 'Generated Tokens';
		cmp_ok($nodes[$i]{'Wait Time'}, '>', 0, "$what, node $i: there is a time");
		cmp_ok($nodes[$i]{Batches}, '>', 0, "$what, node $i: it had to wait");
		cmp_ok($nodes[$i]{Batches}, '<=', $nodes[$i]{'Calls Made'}, "$what, node $i: at most once for each call");
	}
	$plan = explain("$settings $again", $twice);
	like(encode_json($plan), qr/Gather/, "$what: a parallel plan that is run twice");
	is((batch_nodes($plan))[0]{'Calls Made'}, 60, "$what: calls of all runs");
}
# A subplan that a worker runs.
my $force = $node->safe_psql('postgres', "SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')");
$node->safe_psql('postgres', 'CREATE TABLE serial WITH (parallel_workers = 0) AS SELECT * FROM many WHERE id <= 10; ANALYZE serial');
my $plan = explain("SET $force = on;", 'SELECT id FROM many a WHERE x IN (SELECT llama_complete(s.x, 1) FROM serial s) OR id < 3');
is("$plan->{'Node Type'}|$plan->{'Workers Launched'}", 'Gather|1', 'a subplan in a worker');
is((batch_nodes($plan))[0]{'Calls Made'}, 10, 'its calls are counted');
explain('SET llama3.enable_result_cache = on;', $query);
my ($known) = batch_nodes(explain('SET llama3.enable_result_cache = on;', $query));
is("$known->{'Calls Made'}|$known->{'Calls Cached'}|$known->{Batches}", '0|60|0', 'answers that are known are not waited for');
my $client = spawn_sql($node, "$parallel $long");
ok(wait_until('its workers are at work', sub {
	return $node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM llama_stat_requests') eq '3' }), 'a parallel statement is at work')
  or diag($node->safe_psql('postgres', "$parallel EXPLAIN $long"));
is(progress('count(*), min(rows_total), bool_and(pid IN (SELECT leader_pid FROM pg_stat_activity))'), '1|60|t', 'it has one entry, the leader\'s');
is(progress('rows_begun = calls_made AND rows_begun >= 12'), 't', 'with the rows and calls of all processes');
progress('pg_cancel_backend(pid)');
finish_sql($client);
nobody_runs('a cancelled parallel statement');

# ------------------------------------------------------- a row's calls share its prefill
my $text = "(SELECT string_agg('word ' || x, ' ') FROM many)";
my @asked = map { "llama_$_(text, '{p,q}')" } 'classify', 'classify_prob';
my ($alone_node) = batch_nodes(explain('', "SELECT id, $asked[0] FROM (SELECT 1 AS id, $text AS text OFFSET 0) s"));
my ($both) = batch_nodes(explain('', "SELECT id, $asked[0], $asked[1] FROM (SELECT 1 AS id, 'two ' || $text AS text OFFSET 0) s"));
my $prompt = $both->{'Prompt Tokens'} / 2;
cmp_ok($prompt, '>', 120, 'a long text, asked about twice');
cmp_ok($both->{'Cached Tokens'} - $alone_node->{'Cached Tokens'}, '>', 0.8 * $prompt, 'is computed once');

# ------------------------------------------------------- waiting for a slot
# The only one is another's for more than a second.
$node->append_conf('postgresql.conf', 'llama3.queue_size = 1');
$node->restart;
my $holder = spawn_sql($node, $long);
ok(wait_until('the slot is taken', sub { progress('calls_made') eq '1' }), 'the only slot is taken');
my $waiter = spawn_sql($node, "EXPLAIN (ANALYZE, FORMAT json) SELECT llama_filter(x, 'a') FROM many WHERE id = 1");
ok(wait_until('a backend waits', sub { $node->safe_psql('postgres', 'SELECT backends_waiting FROM llama_stat') eq '1' }), 'a statement waits for it');
$node->safe_psql('postgres', 'SELECT pg_sleep(1.1); SELECT pg_cancel_backend(pid) FROM llama_progress_statements ORDER BY started_at LIMIT 1');
finish_sql($holder);
finish_sql($waiter);
cmp_ok((batch_nodes(decode_json($waiter->{out})->[0]{Plan}))[0]{'Wait Time'}, '>', 1000, 'that time is part of what it waited');

$node->stop;
done_testing();
