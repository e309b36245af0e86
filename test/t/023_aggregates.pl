# Aggregates over many rows and many groups: bounded memory, bounded requests,
# the same answers whatever the plan, and nothing left behind by what ends early.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

# Most requests of a query in flight (reduce.c).
use constant MAX_IN_FLIGHT => 16;

# As small as can be: what is tested is the tree, and 10,000 rows go through it.
make_model('tiny.gguf', qw(--preset tiny --layers 1 --embd 64 --heads 2 --kv-heads 1 --head-dim 32 --ff 64
	--type q8_0 --chat llama31 --seed 7));
make_model('slow.gguf', 'slow');
my $node = start_node('main', "llama3.models = 'tiny.gguf, slow.gguf'", "llama3.default_model = 'tiny'");

$node->safe_psql('postgres', q{
	CREATE TABLE mail AS SELECT i AS id, i % 200 AS sender, 'Mail number ' || i || ' says hello.' AS body
		FROM generate_series(1, 10000) i;
	ANALYZE mail;
	CREATE TABLE watched (id int, bytes bigint, contexts int, payload bigint, slots int);
	-- what the aggregates of this backend hold, and what its requests do
	CREATE FUNCTION watch(id int) RETURNS text LANGUAGE sql VOLATILE AS $$
		INSERT INTO watched SELECT id, sum(total_bytes), count(*), (SELECT payload_bytes FROM llama_stat), (SELECT slots_in_use FROM llama_stat)
			FROM pg_backend_memory_contexts WHERE name LIKE 'llama3 aggregate%';
		SELECT ''::text $$;
	});

$node->safe_psql('postgres', "SELECT llama_generate('warm up', max_tokens => 1, model => m) FROM unnest(ARRAY['tiny', 'slow']) m");
my $segments = shared_memory_files();

# ------------------------------------------------------------- 10,000 rows
$node->safe_psql('postgres', q{
	SELECT llama_agg(CASE WHEN id % 50 = 0 THEN body || watch(id) ELSE body END, 'Count them.', 5) IS NOT NULL FROM mail});
my ($n, $bytes, $payload, $slots) = split /\|/, $node->safe_psql('postgres',
	'SELECT count(*), max(bytes), max(payload), max(slots) FROM watched');
note("10,000 rows: state of at most $bytes bytes, payloads of at most $payload");
is($n, 200, 'the state was watched all along');
# 24 kB for each level of the tree: texts, the answers of some forty parts, theirs.
cmp_ok($bytes, '<=', 3 * 24 * 1024, 'memory stays within the stated bound');
cmp_ok($slots, '<=', MAX_IN_FLIGHT, 'so do the requests in flight');
cmp_ok($payload, '<=', MAX_IN_FLIGHT * 4 * 4096 * 2, 'and their payloads');
nothing_left_behind($node, $segments, 'after 10,000 rows');

# A text of some megabytes is read piece by piece.
$node->safe_psql('postgres', 'TRUNCATE watched');
is($node->safe_psql('postgres', q{
	SELECT llama_agg(t, 'Count.', 5 ORDER BY n) IS NOT NULL
	FROM (VALUES (1, repeat('A long text. ', 20000)), (2, 'short')) v(n, t)}), 't', 'a text that is longer than any context');

# ------------------------------------------------------------- many groups
my $grouped = q{SELECT sender, llama_agg(body, 'Sum up.', 4 %s) AS answer FROM mail WHERE id <= 600 GROUP BY sender};
$node->safe_psql('postgres', 'CREATE TABLE sorted AS ' . sprintf($grouped, 'ORDER BY id'));
my %plans = (
	'hashed' => 'SET enable_sort = off',
	'hashed and spilled to disk' => "SET enable_sort = off; SET work_mem = '64kB'; SET hash_mem_multiplier = 1",
	'hashed, errors as NULL' => "SET enable_sort = off; SET llama3.on_error = 'null'");
for my $plan (sort keys %plans)
{
	$node->safe_psql('postgres', 'TRUNCATE watched');
	my $query = sprintf($grouped, '');
	like($node->safe_psql('postgres', "$plans{$plan}; EXPLAIN $query"), qr/HashAggregate/, "$plan: by hashing");
	$node->safe_psql('postgres', "$plans{$plan}; CREATE TABLE hashed AS "
		. "SELECT sender, answer || watch(sender) AS answer FROM ($query OFFSET 0) x");
	is($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE h.answer = s.answer) FROM hashed h JOIN sorted s USING (sender)'),
		'200|200', "$plan: each group's answer is the one it gets alone");
	cmp_ok($node->safe_psql('postgres', 'SELECT max(slots) FROM watched'), '<=', MAX_IN_FLIGHT, "$plan: requests in flight are bounded");
	$node->safe_psql('postgres', 'DROP TABLE hashed');
}
nothing_left_behind($node, $segments, 'after many groups');

# Groups are not waited for one by one.
my $many = "SET enable_sort = off; SELECT llama_agg(body, 'Sum up.', 2000, 'slow') FROM mail WHERE id <= 60 GROUP BY sender";
my $client = spawn_sql($node, $many);
ok(wait_until('many requests of one query are in flight', sub {
	$node->safe_psql('postgres', 'SELECT slots_in_use FROM llama_stat') == MAX_IN_FLIGHT }),
	'groups that are complete are asked about together');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT function, ',') FROM llama_stat_requests"), 'llama_agg',
	'requests are seen under the aggregate\'s name');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM llama_stat_requests LIMIT 1");
finish_sql($client);
is(sqlstate_of($client->{err}), '57014', 'cancel while groups are answered');
nothing_left_behind($node, $segments, 'after that cancel');

# ------------------------------------------------------------- early ends
my $busy = "SELECT llama_agg(repeat(body, 40), 'Sum up.', 4000, 'slow') FROM mail";
sub in_flight { return $node->safe_psql('postgres', 'SELECT count(*) >= 2 FROM llama_stat_requests') eq 't'; }
my %ends = (
	'a cancel' => [ sub { $node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM llama_stat_requests LIMIT 1") }, '57014' ],
	'a terminated backend' => [ sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM llama_stat_requests LIMIT 1") }, '57P01' ]);
for my $end (sort keys %ends)
{
	$client = spawn_sql($node, $busy);
	ok(wait_until('leaves are in flight', \&in_flight), "$end: leaves run while rows are read");
	$ends{$end}[0]->();
	finish_sql($client);
	is(sqlstate_of($client->{err}), $ends{$end}[1], "$end ends the aggregate");
	nothing_left_behind($node, $segments, "after $end");
}
$client = spawn_sql($node, "SET statement_timeout = '500ms'; $busy");
finish_sql($client);
is(sqlstate_of($client->{err}), '57014', 'a timeout ends the aggregate');
nothing_left_behind($node, $segments, 'after a timeout');

# Parallel workers hold requests of their own.
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; ';
like($node->safe_psql('postgres', "$parallel EXPLAIN $busy"), qr/Partial Aggregate/, 'the plan is parallel');
$client = spawn_sql($node, "$parallel $busy");
ok(wait_until('two processes ask', sub {
	$node->safe_psql('postgres', 'SELECT count(DISTINCT pid) >= 2 FROM llama_stat_requests') eq 't' }), 'parallel workers ask');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE '%Sum up%' AND pid <> pg_backend_pid()");
finish_sql($client);
is(sqlstate_of($client->{err}), '57014', 'cancel of a parallel aggregate');
nothing_left_behind($node, $segments, 'after a parallel cancel');

# An error beside the aggregate, caught: its requests are gone at once, although
# the transaction goes on; likewise a cursor over groups that is closed.
for my $sql (
	"DO \$\$ BEGIN PERFORM llama_agg(repeat(body, 40), 'Sum up.', 4000, 'slow'), sum(1 / (id - 30)) FROM mail; "
	  . "EXCEPTION WHEN division_by_zero THEN NULL; END \$\$",
	"SET LOCAL enable_sort = off; DECLARE c CURSOR FOR SELECT llama_agg(body, 'Sum up.', 3, 'slow') FROM mail WHERE id <= 40 GROUP BY sender; FETCH 1 FROM c; CLOSE c")
{
	my $session = $node->background_psql('postgres');
	$session->query("BEGIN; $sql");
	ok(wait_until('the slots are free', sub { $node->safe_psql('postgres', 'SELECT slots_in_use FROM llama_stat') eq '0' }),
		'slots are free while the transaction goes on: ' . substr($sql, 0, 40));
	is($session->query('SELECT 1'), '1', 'and it does go on');
	$session->quit;
}
nothing_left_behind($node, $segments, 'after these');

# A query of a function that ends early: what it sent ahead is gone with it.
is($node->safe_psql('postgres', q{
	CREATE FUNCTION first_group() RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE bytes bigint;
	BEGIN
		SET LOCAL enable_sort = off;
		PERFORM llama_agg(body, 'Sum up.', 3) FROM mail WHERE id <= 100 GROUP BY sender LIMIT 1;
		FOR i IN 1..200 LOOP
			SELECT payload_bytes INTO bytes FROM llama_stat;
			EXIT WHEN bytes = 0;
			PERFORM pg_sleep(0.05);
		END LOOP;
		RETURN bytes;
	END $$;
	SELECT first_group()}), '0', 'nothing is left of groups that were not fetched');

# ------------------------------------------------------------- outages
my $before = $node->safe_psql('postgres', "SELECT llama_agg(body, 'Sum up.', 6 ORDER BY id) FROM mail WHERE id <= 600");
$client = spawn_sql($node, "SELECT llama_agg(body, 'Sum up.', 6 ORDER BY id) FROM mail WHERE id <= 600");
wait_until('it runs', sub { $node->safe_psql('postgres', 'SELECT slots_in_use > 0 FROM llama_stat') eq 't' });
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM llama_stat_workers");
finish_sql($client);
is($client->{out}, $before, 'an engine worker that is terminated meanwhile changes nothing');
nothing_left_behind($node, $segments, 'after a terminated worker');
$node->stop;

# A request that the KV cache has no room for: an error, or NULL.
$node->append_conf('postgresql.conf', "llama3.kv_cache_size = 16MB\nllama3.queue_size = 3");
$node->start;
my ($status, $out, $err) = $node->psql('postgres', $busy);
like($err, qr/request does not fit into the KV cache/, 'a part that cannot be answered is an error');
($status, $out, $err) = $node->psql('postgres', "SET llama3.on_error = 'null'; SET client_min_messages = error; "
	. "SELECT coalesce(llama_agg(repeat(body, 40), 'Sum up.', 4000, 'slow'), 'null'), count(*) FROM mail WHERE id <= 500");
is($out, 'null|500', 'or NULL, and the query goes on');
is($node->safe_psql('postgres', "SELECT llama_agg(body, 'Sum up.', 6 ORDER BY id) FROM mail WHERE id <= 600"), $before,
	'a queue of three slots changes nothing');
is($node->safe_psql('postgres', 'SELECT slots_in_use, payload_bytes FROM llama_stat'), '0|0', 'nothing is left of rows that could not be answered');
$node->stop;

done_testing();
