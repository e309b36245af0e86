# Transparent batching against calls one after the other: the SQL tests, 250
# generated queries, 60 generated changes, errors, cancels and crashes with many
# rows in flight, and what may stand beside or below it.

use strict;
use warnings;
use lib '.', 't';
use Time::HiRes qw(sleep);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
make_model('slow.gguf', 'slow');
my $node = start_node('main', "llama3.models = 'tiny.gguf'", "llama3.default_model = 'tiny'",
	"shared_preload_libraries = 'pg_stat_statements,llama3,auto_explain'",
	'pg_stat_statements.track_planning = on');
my $tmp = $PostgreSQL::Test::Utils::tmp_check;

# Output and messages of a script, with PGOPTIONS.
sub run_script
{
	my ($file, $dbname, $options, @psql) = @_;
	local $ENV{PGOPTIONS} = $options;
	my $out = '';
	IPC::Run::run([ $node->installed_command('psql'), '-Xq', @psql, '-d', $node->connstr($dbname), '-f', $file ],
		'<', '/dev/null', '>', \$out, '2>&1');
	return $out;
}

my %modes = (
	batched => '-c llama3.enable_batching=on',
	plain => '-c llama3.enable_batching=off',
	hash => '-c llama3.enable_batching=on -c enable_mergejoin=off -c enable_nestloop=off -c work_mem=64kB',
	merge => '-c llama3.enable_batching=on -c enable_hashjoin=off -c enable_nestloop=off',
	loop => '-c llama3.enable_batching=on -c enable_hashjoin=off -c enable_mergejoin=off',
	parallel => '-c llama3.enable_batching=on -c '
	  . ($node->safe_psql('postgres', "SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')"))
	  . '=on -c parallel_setup_cost=0 -c parallel_tuple_cost=0 -c min_parallel_table_scan_size=0');

# ------------------------------------------------------------------ SQL tests
my @files = glob('../sql/*.sql');
cmp_ok(scalar(@files), '>', 8, 'the SQL tests are here');
for my $file (@files)
{
	my %out;
	my $shows = plan_showers(slurp_file($file));
	for my $mode ('batched', 'plain')
	{
		$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS suite');
		$node->safe_psql('postgres', 'CREATE DATABASE suite');
		$node->safe_psql('suite', 'CREATE EXTENSION llama3');
		# Identifiers of queries are made of OIDs, which are each database's own.
		$out{$mode} = without_plans(run_script($file, 'suite', "$modes{$mode} -c compute_query_id=off", '-a'), $shows);
	}
	ok($out{batched} eq $out{plain}, "$file: the same with and without batching")
	  or diag(first_difference($out{batched}, $out{plain}));
}

# What in a script shows plans: EXPLAIN, and functions that are made of it.
sub plan_showers
{
	my ($script) = @_;
	my %body;
	$body{$1} = $2 while $script =~ /^CREATE FUNCTION (\w+)\(.*? AS (\$\$.*?\$\$|'.*?');/gms;
	my $shows = '\bEXPLAIN\b';
	while (my @more = grep { $body{$_} =~ /$shows/ } keys %body)
	{
		delete @body{@more};
		$shows .= "|\\b$_\\(" for @more;
	}
	return qr/$shows/;
}

# The output of a script but for the results of statements that show plans,
# which are different with batching and without.
sub without_plans
{
	my ($out, $shows) = @_;
	my @parts = split /^( .*\n-[-+]*\n(?s:.*?)^\(\d+ rows?\)\n)/m, $out;
	for (my $i = 1; $i < @parts; $i += 2)
	{
		my ($statement) = $parts[ $i - 1 ] =~ /((?:[^;]|;(?!\n))*;\n)\z/;
		$parts[$i] = "(plans)\n" if defined $statement && $statement =~ $shows;
	}
	return join '', @parts;
}

sub first_difference
{
	my @a = split /\n/, $_[0];
	my @b = split /\n/, $_[1];
	for my $i (0 .. $#a)
	{
		return "line $i: " . $a[$i] . "\n     vs: " . ($b[$i] // '')
		  if $a[$i] ne ($b[$i] // '');
	}
	return 'the second is longer';
}

my $backward = "CREATE TEMP TABLE t (x text); BEGIN; DECLARE c %s FOR SELECT llama_filter(x, 'a') FROM t; FETCH PRIOR FROM c";
like(($node->psql('postgres', sprintf($backward, 'CURSOR')))[2], qr/cursor can only scan forward/,
	'a cursor that is not declared SCROLL is batched, and goes forward only');
is(($node->psql('postgres', sprintf($backward, 'SCROLL CURSOR')))[0], 0, 'one that is declared so goes both ways');

# ----------------------------------------------------------- generated queries
$node->safe_psql('postgres', q{
	CREATE TABLE a (id int, g int, x text);
	INSERT INTO a SELECT i, CASE WHEN i % 6 <> 0 THEN i % 4 END, CASE WHEN i % 5 <> 0 THEN 'text ' || i % 8 END
		FROM generate_series(1, 16) i;
	CREATE INDEX ON a (g);
	CREATE TABLE b (id int PRIMARY KEY, g int, x text);
	INSERT INTO b SELECT i, i % 3, CASE WHEN i <> 4 THEN 'b ' || i END FROM generate_series(1, 7) i;
	CREATE TABLE e (id int, g int, x text);
	CREATE TABLE p (id int, g int, x text) PARTITION BY RANGE (id);
	CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (5);
	CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (5) TO (100);
	INSERT INTO p SELECT i, i % 2, 'part ' || i % 3 FROM generate_series(1, 9) i;
	ANALYZE;
	CREATE FUNCTION nodes(query text) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE line text; n int := 0;
	BEGIN
		FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
			n := n + (line ~ 'Llama Batch')::int;
		END LOOP;
		RETURN n;
	END $$});

# A generator of its own, so that the queries are the same everywhere.
my $seed = 20;
sub pick { $seed = ($seed * 1103515245 + 12345) % 2**31; return $_[ ($seed >> 8) % @_ ]; }
sub chance { return pick(1 .. 100) <= $_[0]; }

sub text_of
{
	my ($t) = @_;
	return pick("$t.x", "$t.x", "upper($t.x)", "$t.x || $t.g", "coalesce($t.x, 'none')", "(SELECT max(s.x) FROM b s WHERE s.g = $t.g)", "'k' || $t.g", "'same'");
}

sub number_call
{
	my ($depth, @t) = @_;
	my $t = pick(@t);
	my $u = pick(@t);
	return pick('llama_filter_prob(' . text_of($t) . ", 'short')", "llama_filter_prob($t.x, 'long')",
		'llama_filter_prob(' . text_of($t) . ", 'is ' || " . text_of($u) . ')', "llama_similarity($t.x, $u.x)",
		"(llama_embed($t.x, 3))[2]", "(llama_classify_prob($t.x, '{p,q,r}'))[1]",
		$depth > 0 ? 'llama_filter_prob(' . text_call($depth - 1, @t) . ", 'short')" : "llama_filter_prob($t.x, 'short')");
}

sub text_call
{
	my ($depth, @t) = @_;
	my $t = pick(@t);
	return pick('llama_complete(' . text_of($t) . ', 2)', "llama_classify($t.x, '{p,q,r}', 'task ' || $t.g)",
		"llama_complete($t.x, 2)",
		$depth > 0 ? 'llama_complete(' . text_call($depth - 1, @t) . ', 1)' : "llama_complete($t.x, 1)");
}

sub condition
{
	my ($depth, @t) = @_;
	my $t = pick(@t);
	my $call = number_call(1, @t) . pick(' < 0.5', ' > 0.3', ' IS NOT NULL', ' <> 0', ' < 2');
	return pick("$t.id % 3 <> 1", "$t.g IS NOT NULL", "$t.x LIKE '% %'", $call, $call, $call) if $depth == 0;
	my ($l, $r) = (condition($depth - 1, @t), condition($depth - 1, @t));
	return pick("($l AND $r)", "($l OR $r)", "NOT ($l)", "CASE WHEN $l THEN $r ELSE true END",
		"coalesce($l, $r)", "($l) IS DISTINCT FROM true");
}

# A join key with a call on one side or on both.
sub join_key
{
	my ($t, $u) = @_;
	my ($l, $r) = map { "llama_classify($_.x, '{p,q,r}')" } $t, $u;
	return pick("$l = $r", "$l = chr(112 + $u.id % 3)", "chr(112 + $t.id % 3) = $r", "$l = $r AND $t.g = $u.g");
}

# What a column of the select list may be.
sub column
{
	my (@t) = @_;
	my $t = pick(@t);
	return pick(number_call(1, @t), number_call(1, @t), text_call(1, @t), text_call(1, @t),
		'CASE WHEN ' . condition(0, @t) . ' THEN ' . number_call(0, @t) . ' END',
		'coalesce(' . text_call(0, @t) . ", $t.x)", "$t.id", "$t.x", "$t", "ROW($t.id, " . number_call(0, @t) . ')',
		"nullif(" . text_call(0, @t) . ", $t.x)", 'greatest(' . number_call(0, @t) . ', ' . number_call(0, @t) . ')',
		"(SELECT " . pick('max(s.id)', 'count(*)') . " FROM b s WHERE s.g = $t.g AND " . condition(0, 's', $t) . ')',
		"$t.id IN (SELECT s.g FROM b s WHERE " . condition(0, 's') . ')');
}

# A table expression called $t with columns id, g, x.
sub source
{
	my ($t, $depth) = @_;
	return pick(qw(a a b b e p p)) . " $t" if $depth == 0 || chance(55);
	my $kind = pick(qw(sub limit union values series cte window group));
	my $from = source('s', $depth - 1);
	return "(SELECT s.id, s.g, " . text_call(0, 's') . " AS x FROM $from WHERE " . condition(0, 's') . ") $t" if $kind eq 'sub';
	return "(SELECT s.id, s.g, s.x FROM $from ORDER BY s.id, s.g, s.x, " . number_call(0, 's')
	  . ' LIMIT ' . pick(2, 5) . ' OFFSET ' . pick(0, 1) . ") $t" if $kind eq 'limit';
	return "(SELECT s.id, s.g, s.x FROM $from WHERE " . condition(0, 's') . ' UNION ALL SELECT s.id, s.g, '
	  . text_call(0, 's') . " FROM b s) $t" if $kind eq 'union';
	return "(VALUES (1, 2, 'one'), (2, NULL, 'two'), (3, 4, NULL)) $t (id, g, x)" if $kind eq 'values';
	return "(SELECT i AS id, i % 2 AS g, 'n' || i AS x FROM generate_series(1, 5) i) $t" if $kind eq 'series';
	return "(WITH w AS MATERIALIZED (SELECT s.id, s.g, " . text_call(0, 's') . " AS x FROM $from) SELECT * FROM w WHERE "
	  . condition(0, 'w') . ") $t" if $kind eq 'cte';
	return "(SELECT count(*) OVER (ORDER BY s.g)::int AS g, s.id, " . text_call(0, 's') . " AS x, rank() OVER (ORDER BY s.id) AS n FROM $from) $t"
	  if $kind eq 'window';
	return "(SELECT s.g, max(s.id) AS id, llama_complete(max(s.x), 1) AS x FROM $from GROUP BY s.g HAVING "
	  . "llama_filter_prob(max(s.x), 'short') IS NOT NULL OR count(*) > 1) $t";
}

sub query
{
	my @t = ('t');
	my $from = source('t', 2);
	if (chance(45))
	{
		my $kind = pick('JOIN', 'JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN', 'CROSS JOIN LATERAL');
		my $u = chance(70) ? pick(qw(b b e p)) . ' u' : source('u', 1);
		@t = ('t', 'u');
		if ($kind eq 'CROSS JOIN LATERAL')
		{
			$from .= " $kind (SELECT v.id, v.g, " . text_call(0, 'v', 't') . ' AS x FROM b v WHERE v.id < t.id % 4 AND '
			  . condition(0, 'v', 't') . ' OFFSET 0) u';
		}
		else
		{
			my $on = pick('t.id = u.id', 't.g = u.g', 't.id = u.id AND t.g = u.g', 'u.id = t.id % 8', join_key(@t), join_key(@t));
			$on .= ' AND ' . condition(0, @t) if chance(60);
			$from .= " $kind $u ON $on";
		}
	}
	my @where = map { condition(pick(0, 0, 1), @t) } 1 .. pick(0, 1, 1, 2);
	my $t = pick(@t);
	push @where, (chance(50) ? 'NOT ' : '') . 'EXISTS (SELECT 1 FROM b s WHERE ' . pick("s.id = $t.id", join_key('s', $t)) . ' AND ' . condition(0, 's', $t) . ')'
	  if chance(20);
	my $where = @where ? ' WHERE ' . join(' AND ', @where) : '';
	if (chance(20))
	{
		my $key = pick(text_call(0, @t), "$t.g", 'round(' . number_call(0, @t) . '::numeric, 2)');
		my $group = pick("GROUP BY 1", "GROUP BY ROLLUP (1)", "GROUP BY GROUPING SETS ((1), ())");
		$group =~ s/1/$key/ if $group ne 'GROUP BY 1';
		return "SELECT $key, count(*), llama_filter_prob(string_agg($t.x, ' ' ORDER BY $t.x), 'list'), "
		  . 'max(' . number_call(0, @t) . ") FROM $from$where $group"
		  . (chance(40) ? " HAVING llama_filter_prob(min($t.x), 'short') < 2 OR count(*) > 2" : '');
	}
	my @columns = map { column(@t) } 1 .. pick(1, 2, 3);
	push @columns, "sum($t.id) OVER (PARTITION BY $t.g)", "llama_filter_prob(max($t.x) OVER (ORDER BY $t.g), 'last')"
	  if chance(12);
	my $query = 'SELECT ' . (chance(10) ? 'DISTINCT ' : '') . join(', ', @columns) . " FROM $from$where";
	if (chance(30))
	{
		# A total order of the rows, as text, so that LIMIT has one meaning.
		$query = "SELECT * FROM ($query) q ORDER BY q::text";
		$query .= ' LIMIT ' . pick(1, 3, 6) . ' OFFSET ' . pick(0, 2) if chance(60);
	}
	return $query;
}

my $n_queries = 250;
my @queries = map { query() } 1 .. $n_queries;
my $script = "$tmp/queries.sql";
append_to_file($script, join('', map { "\\echo >>>\n$_;\n" } @queries));

my %results;
for my $mode (sort keys %modes)
{
	(undef, @{ $results{$mode} }) = split /^>>>\n/m, run_script($script, 'postgres', $modes{$mode}, '-At');
}
my ($batched, $with_rows, $errors) = (0, 0, 0);
for my $i (0 .. $n_queries - 1)
{
	my $query = $queries[$i];
	my $plain = rows($results{plain}[$i], $query);
	$with_rows++ if $plain ne '';
	$errors++ if $plain =~ /ERROR/;
	for my $mode (grep { $_ ne 'plain' } sort keys %modes)
	{
		my $rows = rows($results{$mode}[$i], $query);
		next if $rows eq $plain;
		fail("query $i $mode: as without batching");
		diag("$query\n" . first_difference($rows, $plain));
	}
}
is($errors, 0, 'no generated query fails') or diag(grep { /ERROR/ } @{ $results{plain} });
append_to_file("$tmp/nodes.sql", join('', map { "SELECT nodes(\$query\$$_\$query\$);\n" } @queries));
my @nodes = split /\n/, run_script("$tmp/nodes.sql", 'postgres', $modes{batched}, '-At');
$batched = grep { /^\d+$/ && $_ > 0 } @nodes;
cmp_ok($batched, '>', 100, "$batched of $n_queries generated queries had a batch node");
cmp_ok($with_rows, '>', 100, "$with_rows of them gave rows, the same in all ways");

# ------------------------------------------------------- generated changes
# UPDATE, DELETE and INSERT of the same sources; what they return and what is in
# the table then, each in a transaction that is rolled back.
sub change
{
	my $kind = pick('UPDATE', 'UPDATE', 'DELETE', 'INSERT', 'MERGE');
	my $from = source('u', 1);
	my $on = pick('c.id = u.id', 'c.g = u.g AND c.id <= u.id', 'u.id = c.id % 8');
	my $where = chance(60) ? ' AND ' . condition(pick(0, 1), 'c', 'u') : '';
	my $set = 'x = ' . text_call(1, 'c') . (chance(50) ? ', n = ' . number_call(1, 'c') : '');
	return "UPDATE c SET $set WHERE " . condition(pick(0, 1), 'c') . ' RETURNING c.*' if $kind eq 'UPDATE' && chance(40);
	# One row of the source for each, so that the change has one meaning.
	return "UPDATE c SET x = u.x, n = " . number_call(0, 'c', 'u')
	  . " FROM (SELECT DISTINCT ON (id) * FROM $from ORDER BY id, g, x) u WHERE c.id = u.id$where RETURNING c.*, u.x" if $kind eq 'UPDATE';
	return "DELETE FROM c USING $from WHERE $on$where RETURNING c.*" if $kind eq 'DELETE' && chance(50);
	return 'DELETE FROM c WHERE ' . condition(pick(0, 1), 'c') . ' RETURNING *, ' . number_call(0, 'c') if $kind eq 'DELETE';
	return 'MERGE INTO c USING (SELECT DISTINCT ON (id) id, g, ' . text_call(0, 'u') . " AS x FROM $from ORDER BY id, g, u.x) u ON c.id = u.id "
	  . pick('', 'WHEN MATCHED AND ' . condition(0, 'c', 'u') . ' THEN DELETE ')
	  . 'WHEN MATCHED THEN UPDATE SET x = ' . text_call(0, 'u', 'c') . ' WHEN NOT MATCHED THEN INSERT VALUES (u.id, u.g, u.x, ' . number_call(0, 'u') . ')'
	  if $kind eq 'MERGE';
	return 'INSERT INTO c SELECT u.id, u.g, ' . text_call(1, 'u') . ', ' . number_call(1, 'u') . " FROM $from WHERE " . condition(pick(0, 1), 'u')
	  . ' RETURNING *';
}
$node->safe_psql('postgres', 'CREATE TABLE c AS SELECT id, g, x, 0::float8 AS n FROM a');
my @changes = map { change() } 1 .. 60;
my $changes = "$tmp/changes.sql";
append_to_file($changes, join('', map { "\\echo >>>\nBEGIN;\n$_;\nSELECT 'now', c.* FROM c;\nROLLBACK;\n" } @changes));
my %changed;
(undef, @{ $changed{$_} }) = split /^>>>\n/m, run_script($changes, 'postgres', $modes{$_}, '-Atq') for sort keys %modes;
for my $i (0 .. $#changes)
{
	my $plain = rows($changed{plain}[$i], '');
	unlike($plain, qr/ERROR/, "change $i does not fail") or diag("$changes[$i]\n$plain");
	for my $mode (grep { $_ ne 'plain' } sort keys %modes)
	{
		my $rows = rows($changed{$mode}[$i], '');
		next if $rows eq $plain;
		fail("change $i $mode: as without batching");
		diag("$changes[$i]\n" . first_difference($rows, $plain));
	}
}
my $untouched = join "\n", sort map { "now|$_" } split /\n/, $node->safe_psql('postgres', 'SELECT * FROM c');
cmp_ok(scalar(grep { rows($_, '') ne "\n$untouched" && rows($_, '') ne $untouched } @{ $changed{plain} }), '>', 40, 'most of them change something');
my @change_nodes = grep { /^\d+$/ && $_ > 0 } map { $node->safe_psql('postgres', "SELECT nodes(\$query\$$_\$query\$)") } @changes;
cmp_ok(scalar(@change_nodes), '>', 40, scalar(@change_nodes) . ' of them had a batch node');

# Rows as they came where the query orders them, else sorted.
sub rows
{
	my ($rows, $query) = @_;
	$rows //= 'none';
	return $rows if $query =~ /ORDER BY q::text/;
	return join("\n", sort split(/\n/, $rows, -1));
}

# ----------------------------------------------- errors, cancels and crashes
$node->safe_psql('postgres', 'CREATE TABLE many AS SELECT i AS id, i::text AS x FROM generate_series(1, 60) i');
my $decide = 'SELECT string_agg(p::text, \',\' ORDER BY id) FROM (SELECT id, '
  . "llama_filter_prob(x, 'short') + llama_similarity(x, 'y') AS p FROM many WHERE llama_filter_prob(x, 'long') < 2 OFFSET 0) s";
my $answer = $node->safe_psql('postgres', "SET llama3.enable_batching = off; $decide");
is($node->safe_psql('postgres', $decide), $answer, 'many rows: the answer of single calls');

$node->append_conf('postgresql.conf', "llama3.models = 'slow.gguf, tiny.gguf'\nllama3.workers = 2");
$node->restart;
$node->safe_psql('postgres', "SELECT llama_filter_prob('x', 'a', 'slow'), llama_filter_prob('x', 'a', 'tiny')");
my $segments = shared_memory_files();
# Answers are short at first, so that the node reads far ahead, and then long.
my $long = "SELECT count(llama_complete) FROM (SELECT llama_complete(x, max_tokens => CASE WHEN id > 20 THEN 3000 ELSE 1 END, "
  . "repeat_penalty => 0.1, model => 'slow') FROM many WHERE llama_filter_prob(x, 'a', 'tiny') < 2 OFFSET 0) s";
sub in_flight { return $node->safe_psql('postgres', 'SELECT count(*) FROM llama_stat_requests') > 15 && running_requests($node) > 0; }
my %ways = (
	'a cancel' => sub { $node->safe_psql('postgres', "SELECT pg_cancel_backend($_[0])"); },
	'a terminated backend' => sub { $node->safe_psql('postgres', "SELECT pg_terminate_backend($_[0])"); },
	'a timeout' => sub { });
my %state = ('a cancel' => '57014', 'a terminated backend' => '57P01', 'a timeout' => '57014');
for my $way (sort keys %ways)
{
	my $client = spawn_sql($node, $way eq 'a timeout' ? "SET statement_timeout = '3s'; $long" : $long);
	my $pid;
	ok(wait_until('many requests are in flight', \&in_flight), "$way: with many rows in flight") if $way ne 'a timeout';
	wait_until('the backend is known', sub {
		$pid = $node->safe_psql('postgres', 'SELECT min(pid) FROM llama_stat_requests') });
	$ways{$way}->($pid);
	isnt(finish_sql($client), 0, "$way ends the query");
	is(sqlstate_of($client->{err}), $state{$way}, "$way: with its own error") or diag($client->{err});
	nothing_left_behind($node, $segments, "after $way");
}

# A cursor that is closed, and a portal that ends with its session.
{
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my $declare = "BEGIN; DECLARE c CURSOR FOR SELECT llama_complete(x, max_tokens => CASE WHEN id < 3 THEN 2 ELSE 3000 END, "
	  . "repeat_penalty => 0.1, model => 'slow') IS NULL FROM many;";
	$session->query_safe("$declare FETCH 1 FROM c;");
	ok($node->safe_psql('postgres', 'SELECT count(*) > 1 FROM llama_stat_requests') eq 't', 'a cursor keeps requests between its fetches');
	$session->query_safe('CLOSE c; COMMIT;');
	nothing_left_behind($node, $segments, 'after a closed cursor');
	$session->query_safe("$declare FETCH 1 FROM c;");
	$session->quit;
	nothing_left_behind($node, $segments, 'after a session with an open cursor');
}

# A terminated engine worker: others answer.  A killed one: the server restarts.
my $steady = "SELECT string_agg(md5(t), ',' ORDER BY id) FROM (SELECT id, "
  . "llama_complete(x, max_tokens => 24, model => 'slow') AS t FROM many WHERE id < 7 OFFSET 0) s";
my $steady_answer = $node->safe_psql('postgres', "SET llama3.enable_batching = off; $steady");
my $client = spawn_sql($node, $steady);
ok(wait_until('requests run', sub { running_requests($node) > 0 }), 'rows are in flight');
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM llama_stat_workers ORDER BY worker LIMIT 1');
is(finish_sql($client), 0, 'a query survives a terminated engine worker') or diag($client->{err});
is($client->{out}, $steady_answer, 'with the same answers');
worker_pids($node);
$client = spawn_sql($node, $long);
ok(wait_until('many requests are in flight', \&in_flight), 'rows are in flight again');
kill 'KILL', (worker_pids($node))[0];
isnt(finish_sql($client), 0, 'a killed engine worker: the client is told');
ok(wait_until('the server is back', sub { $node->psql('postgres', 'SELECT 1') == 0 }), 'and the server comes back');
$node->safe_psql('postgres', "SELECT llama_filter_prob('x', 'a', 'slow'), llama_filter_prob('x', 'a', 'tiny')");
nothing_left_behind($node, $segments, 'after a killed engine worker');

# ------------------------------------------------------- other settings
# Queues shorter than a row's requests; a model that is loaded again meanwhile;
# the hooks of the neighbours before and after ours.
for my $setting ("llama3.queue_size = 1", "llama3.queue_size = 2", "llama3.max_sequences = 1\nllama3.queue_size = 256\nshared_preload_libraries = 'llama3,auto_explain,pg_stat_statements'")
{
	$node->append_conf('postgresql.conf', "llama3.models = 'tiny.gguf'\n$setting");
	$node->restart;
	my ($name) = $setting =~ /^(.*)/;
	is($node->safe_psql('postgres', "SET statement_timeout = '60s'; $decide"), $answer, "$name: the same answers");
	my @clients = map { spawn_sql($node, "SET statement_timeout = '60s'; $decide") } 1 .. 4;
	is(scalar(grep { finish_sql($_) == 0 && $_->{out} eq $answer } @clients), 4, "$name: also to four at once")
	  or diag(map { $_->{err} } @clients);
}
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query("PREPARE q AS $decide");
	is($session->query('EXECUTE q'), $answer, 'a prepared query');
	$node->safe_psql('postgres', "SELECT llama_unload_model('tiny')");
	$session->query('EXECUTE q');
	like($session->{stderr}, qr/model "tiny" does not exist/, 'its model was unloaded');
	$session->{stderr} = '';
	$node->safe_psql('postgres', "SELECT llama_load_model('tiny.gguf')");
	is($session->query('EXECUTE q'), $answer, 'and loaded again');
	$session->quit;
}

# ------------------------------------------------------------- neighbours
my $where = "llama_filter_prob(x, 'b') < 2";
sub same_rows
{
	my ($what, $query, $pattern) = @_;
	my $plan = $node->safe_psql('postgres', "EXPLAIN (COSTS off) $query");
	like($plan, $pattern, "$what: the plan") if $pattern;
	my $rows = $node->safe_psql('postgres', $query);
	cmp_ok(length($rows), '>', 20, "$what: there are rows");
	is($rows, $node->safe_psql('postgres', "SET llama3.enable_batching = off; $query"), "$what: the same rows");
}

append_to_file("$tmp/rows.csv", join('', map { "$_,line $_\n" } 1 .. 20));
$node->safe_psql('postgres', qq{
	CREATE EXTENSION file_fdw;
	CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
	CREATE FOREIGN TABLE csv (id int, x text) SERVER files OPTIONS (filename '$tmp/rows.csv', format 'csv')});
same_rows('file_fdw', "SELECT id, llama_filter_prob(x, 'a') FROM csv WHERE id > 3 AND $where", qr/Llama Batch.*Llama Batch.*Foreign Scan on csv/s);

# Two databases of this server; the partitions are scanned at the same time.
$node->safe_psql('postgres', 'CREATE DATABASE remote');
$node->safe_psql('remote', q{CREATE TABLE rows1 AS SELECT i AS id, 'remote ' || i AS x FROM generate_series(1, 12) i;
	CREATE TABLE rows2 AS SELECT i AS id, 'remote ' || i AS x FROM generate_series(101, 112) i});
$node->safe_psql('postgres', q{
	CREATE EXTENSION postgres_fdw;
	CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'remote', host '} . $node->host . q{', port '} . $node->port . q{', async_capable 'true', fetch_size '3');
	CREATE USER MAPPING FOR CURRENT_USER SERVER far;
	CREATE TABLE spread (id int, x text) PARTITION BY RANGE (id);
	CREATE FOREIGN TABLE spread1 PARTITION OF spread FOR VALUES FROM (0) TO (100) SERVER far OPTIONS (table_name 'rows1');
	CREATE FOREIGN TABLE spread2 PARTITION OF spread FOR VALUES FROM (100) TO (200) SERVER far OPTIONS (table_name 'rows2');
	CREATE TABLE spread3 PARTITION OF spread FOR VALUES FROM (200) TO (300);
	INSERT INTO spread3 VALUES (201, 'local 1'), (202, NULL)});
same_rows('postgres_fdw', "SELECT id, llama_filter_prob(x, 'a') FROM spread1 WHERE id > 3 AND $where", qr/Llama Batch.*Foreign Scan on spread1/s);
same_rows('postgres_fdw, partitions', "SELECT id, llama_filter_prob(x, 'a') FROM spread WHERE $where ORDER BY id", qr/Foreign Scan on spread1/);
same_rows('postgres_fdw, partitions with calls', "SELECT id, llama_filter_prob(x, 'a') FROM (SELECT * FROM spread WHERE $where) s ORDER BY id", qr/(?=.*Llama Batch.*-> +Foreign Scan on spread1.*Llama Batch.*-> +Foreign Scan on spread2)(?!.*Async)/s);
same_rows('postgres_fdw, asynchronous', "SELECT llama_filter_prob(s.x, 'a'), id FROM (SELECT * FROM spread OFFSET 0) s ORDER BY id", qr/Llama Batch.*Async Foreign Scan/s);
same_rows('postgres_fdw, join', "SELECT a.id, llama_similarity(a.x, b.x) FROM spread1 a JOIN spread1 b USING (id) WHERE llama_filter_prob(b.x, a.x) < 2 ORDER BY 1", qr/Llama Batch.*Foreign Scan/s);
$node->safe_psql('postgres', "UPDATE spread1 SET x = llama_classify(x, '{p,q}') || id WHERE $where AND id < 6");
is($node->safe_psql('remote', "SELECT count(*) FROM rows1 WHERE x ~ '^[pq]'"), '5', 'postgres_fdw: rows are updated');
$node->safe_psql('postgres', "INSERT INTO spread SELECT id + 20, llama_classify(x, '{p,q}') FROM spread1 WHERE id < 4");
is($node->safe_psql('remote', 'SELECT count(*) FROM rows1'), '15', 'and inserted');

# What was measured is under the query's name, planned once.
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements; SELECT pg_stat_statements_reset()');
$node->safe_psql('postgres', 'SET pg_stat_statements.track_planning = on; ' . "SELECT id, llama_filter_prob(x, 'a') FROM many");
is($node->safe_psql('postgres', q{SELECT plans, calls, rows FROM pg_stat_statements WHERE query LIKE 'SELECT id, llama_filter_prob%'}),
	'1|1|60', 'pg_stat_statements counts plan, call and rows');
my $log_end = -s $node->logfile;
$node->safe_psql('postgres', q{SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; SET auto_explain.log_format = 'json'; SET auto_explain.log_verbose = on; }
	  . "SELECT id, llama_filter_prob(x, 'a') FROM many");
ok(wait_until('the plan is in the log', sub {
	my $log = slurp_file($node->logfile, $log_end);
	return $log =~ /"Custom Plan Provider": "Llama Batch".*"Calls Made": 60/s;
}), 'auto_explain logs the node and its calls');

# In all of EXPLAIN's formats.
for my $format ('text', 'json', 'xml', 'yaml')
{
	like($node->safe_psql('postgres', "EXPLAIN (ANALYZE, VERBOSE, BUFFERS, FORMAT $format) SELECT llama_filter_prob(x, 'a') FROM many WHERE id < 5"),
		qr/Llama Batch.*Calls.{1,20}Made\D{1,5}4\b/s, "EXPLAIN in $format");
}

# A server without us: a session that loads the library plans as ever, and fails.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
my ($ret, $out, $err) = $node->psql('postgres', "LOAD 'llama3'; EXPLAIN (COSTS off) SELECT llama_filter(x, 'a') FROM many; "
	  . "SELECT llama_filter(x, 'a') FROM many LIMIT 0; SELECT llama_filter(x, 'a') FROM many;", extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is($out, 'Seq Scan on many', 'not preloaded: no batch node');
is(sqlstate_of($err), '55000', 'and an error when a row is asked for') or diag($err);
$node->stop;

done_testing();
