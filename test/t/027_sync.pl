# Columns that are kept in step by the background worker: whatever happens to the
# rows, the worker and the server, in the end a column equals its expression.

use strict;
use warnings;
use lib '.', 't';
use Time::HiRes qw(sleep);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
my $node = start_node('sync', "llama3.models = 'tiny.gguf'", 'max_prepared_transactions = 2');
my $sql = sub { $node->safe_psql($_[1] // 'postgres', $_[0]) };

# Nothing is queued and nothing is to be queued.
sub wait_in_step
{
	my ($what, $database) = @_;
	return wait_until($what, sub {
		$sql->('SELECT coalesce(sum(pending), 0) = 0 AND coalesce(bool_and(NOT filling), true) FROM llama_sync_lag', $database)
		  eq 't' });
}

sub worker_pid { return $sql->(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'llama3 sync' AND datname = current_database()}) }

# The rows of docs whose label or vector is not what the expression says now.
my $label = q{llama_classify(body, ARRAY['bug', 'praise', 'question'])};
my $wrong = qq{SELECT count(*) FROM (SELECT label, vec, $label AS l, llama_embed(body, 4) AS v FROM docs OFFSET 0) d
	WHERE label IS DISTINCT FROM l OR vec IS DISTINCT FROM v};

# ----------------------------------------------------------------
# Every way to change rows
# ----------------------------------------------------------------

$sql->(qq{CREATE SEQUENCE computed;
	CREATE FUNCTION counted(body text) RETURNS text LANGUAGE sql AS
		\$\$ SELECT nextval('public.computed'); SELECT public.llama_classify(body, ARRAY['bug', 'praise', 'question']) \$\$;
	CREATE TABLE docs (id int PRIMARY KEY, body text, views int DEFAULT 0, label text, vec real[]);
	INSERT INTO docs SELECT i, 'document ' || i FROM generate_series(1, 60) i});
$sql->(q{SELECT llama_sync('docs', 'label', 'counted(body)', batch_rows => 10)});
$sql->(q{SELECT llama_sync('docs', 'vec', 'llama_embed(body, 4)', batch_rows => 14)});
ok(wait_in_step('rows that were there are filled'), 'rows that were there are filled');
is($sql->($wrong), 0, 'with what the expressions say');
is($sql->('SELECT last_value FROM computed'), 60, 'and each was computed once');

$sql->('UPDATE docs SET views = views + 1');
$sql->('UPDATE docs SET body = body');
$sql->(q{UPDATE docs SET body = 'changed' WHERE id = 7});
ok(wait_in_step('the change'), 'a change is filled');
is($sql->('SELECT last_value FROM computed'), 61, 'an unrelated change computed nothing');

$sql->(q{INSERT INTO docs SELECT i, 'more ' || i FROM generate_series(61, 80) i;
	UPDATE docs SET body = body || '!' WHERE id % 3 = 0;
	DELETE FROM docs WHERE id % 5 = 0;
	INSERT INTO docs VALUES (1, 'again'), (1001, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body;
	UPDATE docs SET id = id + 5000 WHERE id IN (2, 3, 4)});
$node->psql('postgres', "COPY docs (id, body) FROM STDIN;\n2000\tcopied\n2001\tcopied too\n\\.\n");
ok(wait_in_step('all of it'), 'INSERT, UPDATE, DELETE, ON CONFLICT, COPY and new keys are filled');
is($sql->($wrong), 0, 'with what the expressions say');
$sql->(q{TRUNCATE docs; INSERT INTO docs SELECT i, 'second ' || i FROM generate_series(1, 40) i});
ok(wait_in_step('after TRUNCATE'), 'TRUNCATE and new rows are filled');
is($sql->($wrong), 0, 'with what the expressions say');
like($sql->(q{SELECT pending, oldest_pending, failed, filling, rows_filled > 0, last_run IS NOT NULL,
		rows_per_second > 0, sqlstate FROM llama_sync_lag WHERE column_name = 'label'}),
	qr/^0\|\|0\|f\|t\|t\|t\|$/, 'llama_sync_lag tells so');

# The worker ends when it has nothing to do, and another comes when it has.
ok(wait_until('the worker ends', sub { worker_pid() eq '' }), 'an idle worker ends');
$sql->(q{UPDATE docs SET body = 'awake' WHERE id = 5});
ok(wait_in_step('the change'), 'and another one is started');
is($sql->($wrong), 0, 'with what the expressions say');

# ----------------------------------------------------------------
# While values are computed
# ----------------------------------------------------------------

# An expression that waits for a lock that we hold.
$sql->(q{CREATE FUNCTION gated(body text) RETURNS text LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN upper(body); END $$;
	CREATE TABLE gates (id int PRIMARY KEY, body text, up text);
	INSERT INTO gates SELECT i, 'row ' || i FROM generate_series(1, 5) i;
	SELECT llama_sync('gates', 'up', 'gated(body)')});
wait_in_step('gates');
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$sql->(q{UPDATE gates SET body = 'first'});
my $waiting = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llama3 sync' AND wait_event_type = 'Lock'};
ok(wait_until('the worker computes', sub { $sql->($waiting) == 1 }), 'a batch is being computed');
is($node->psql('postgres', q{SET lock_timeout = '20s'; UPDATE gates SET body = 'second' WHERE id = 1;
		DELETE FROM gates WHERE id = 2; UPDATE gates SET up = 'mine' WHERE id = 3; INSERT INTO gates VALUES (6, 'sixth')}),
	0, 'writers do not wait for it');
is($node->psql('postgres', q{SET lock_timeout = '20s'; BEGIN; DELETE FROM gates WHERE id = 4;
		INSERT INTO gates VALUES (4, 'another'); COMMIT}), 0, 'nor who puts another row in place of one');
is($sql->('SELECT count(*) FROM gates WHERE up = upper(body)'), 0, 'the batch is still being computed');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
ok(wait_in_step('gates'), 'all of it is filled');
is($sql->(q{SELECT string_agg(id || up, ',' ORDER BY id) FROM gates}), '1SECOND,3FIRST,4ANOTHER,5FIRST,6SIXTH',
	'and a change while a batch is computed is not lost');

# Rows that others have locked
$gate->query_safe('BEGIN; SELECT FROM gates WHERE id = 3 FOR UPDATE');
$sql->(q{CREATE TABLE notes (t text); UPDATE gates SET body = 'locked' WHERE id <> 3});
$gate->query_safe(q{UPDATE gates SET body = 'by the owner of the lock' WHERE id = 3; UPDATE gates SET body = 'and again' WHERE id = 3});
ok(wait_in_step('the others'), 'rows beside a locked one are filled');
is($sql->(q{SELECT string_agg(DISTINCT up, ',') FROM gates WHERE id <> 3}), 'LOCKED', 'with what they are to hold');
$gate->query_safe('COMMIT');
ok(wait_in_step('the locked row'), 'and the locked one, when it is free');
is($sql->('SELECT up FROM gates WHERE id = 3'), 'AND AGAIN', 'with its last value');
$sql->(q{UPDATE gates SET body = 'queued' WHERE id = 1; SELECT llama_sync_pause('gates', 'up')});
$gate->query_safe('BEGIN; SELECT FROM gates WHERE id = 1 FOR UPDATE');
$sql->(q{SELECT llama_sync_resume('gates', 'up'); UPDATE gates SET body = 'free' WHERE id = 5});
ok(wait_until('the free row', sub { $sql->('SELECT up FROM gates WHERE id = 5') eq 'FREE' }),
	'a row that is queued and locked does not keep others');
$gate->query_safe('ROLLBACK');
ok(wait_in_step('the row that was locked'), 'and is filled when it is free');
is($sql->('SELECT up FROM gates WHERE id = 1'), 'QUEUED', 'with its value');

# Old rows whose keys another transaction has queued do not hold up the rest.
$sql->(q{SELECT llama_sync_remove('gates', 'up'); UPDATE gates SET up = NULL;
	SELECT llama_sync('gates', 'up', 'gated(body)', initial => 'none', batch_rows => 2)});
$gate->query_safe(q{BEGIN; UPDATE gates SET body = 'held' WHERE id = 3});
$sql->(q{SELECT llama_sync_pause('gates', 'up')});
$sql->(q{UPDATE llama_sync_registry SET fill = 'all' WHERE definition = 'gates_up_sync'::regclass;
	SELECT llama_sync_resume('gates', 'up')});
ok(wait_until('rows before', sub { $sql->('SELECT up FROM gates WHERE id = 1') eq 'QUEUED' }),
	'old rows before one that is being changed are filled');
$gate->query_safe('ROLLBACK');
ok(wait_in_step('all old rows'), 'and the others, when it is not any more');
is($sql->('SELECT count(*) FROM gates WHERE up IS DISTINCT FROM upper(body)'), 0, 'with their values');

# ----------------------------------------------------------------
# Pause, resume, retry, errors of the server
# ----------------------------------------------------------------

$sql->(q{SELECT llama_sync_pause('docs', 'label'); UPDATE docs SET body = 'paused' WHERE id <= 10});
ok(wait_until('the other column', sub { $sql->(q{SELECT pending FROM llama_sync_lag WHERE column_name = 'vec'}) == 0 }),
	'another column of the table is filled');
is($sql->(q{SELECT pending, oldest_pending IS NOT NULL FROM llama_sync_lag WHERE column_name = 'label'}), '10|t',
	'while one is paused its changes are queued');
$sql->(q{SELECT llama_sync_resume('docs', 'label')});
ok(wait_in_step('what was queued'), 'and filled after it is resumed');
is($sql->($wrong), 0, 'with what the expressions say');

$sql->(q{CREATE TABLE late (id int PRIMARY KEY, body text, n int);
	INSERT INTO late VALUES (1, 'x'), (2, 'y');
	SELECT llama_sync('late', 'n', $$llama_count_tokens(body, model => 'late')$$)});
ok(wait_until('the error', sub { $sql->(q{SELECT sqlstate FROM llama_sync_lag WHERE target = 'late'::regclass}) eq '42704' }),
	'a model that is not there is told in llama_sync_lag');
is($sql->(q{SELECT pending, failed FROM llama_sync_lag WHERE target = 'late'::regclass}), '2|0', 'and not held against the rows');
$sql->(q{UPDATE docs SET body = 'meanwhile' WHERE id = 1});
ok(wait_until('others', sub { $sql->($wrong) == 0 }), 'nor against other columns');
$sql->(q{SELECT llama_load_model('tiny.gguf', 'late')});
$sql->(q{SELECT llama_sync_resume('late', 'n')});
ok(wait_in_step('late'), 'when it is there, the rows are filled');
is($sql->('SELECT count(n) FROM late'), 2, 'both of them');

# ----------------------------------------------------------------
# Other owners, other types
# ----------------------------------------------------------------

# A group that cannot log in owns the table.
$sql->(q{CREATE ROLE team NOLOGIN; CREATE SCHEMA team AUTHORIZATION team; SET ROLE team;
	CREATE TABLE team.t (id int PRIMARY KEY, a text, b text); INSERT INTO team.t VALUES (1, 'x');
	CREATE FUNCTION team.who(a text) RETURNS text LANGUAGE sql AS 'SELECT current_user || a';
	SELECT llama_sync('team.t', 'b', 'team.who(a)')});
ok(wait_in_step('a table of a role without login'), 'a table of a role without login is filled');
is($sql->('SELECT b FROM team.t'), 'teamx', 'with the role\'s rights');

# pgvector as its extension makes it, without installing it.
SKIP:
{
	my $source = `./pgvector`;
	chomp $source;
	skip $source, 2 if $? != 0;
	my $commands = slurp_file("$source/sql/vector.sql");
	$commands =~ s/^\\echo.*//m;
	$commands =~ s/MODULE_PATHNAME/$source\/vector/g;
	$sql->('CREATE DATABASE vectors');
	$sql->($commands, 'vectors');
	$sql->(q{CREATE EXTENSION llama3; CREATE TABLE v (id int PRIMARY KEY, body text, e vector(4));
		INSERT INTO v VALUES (1, 'a'), (2, 'b'); SELECT llama_sync('v', 'e', 'llama_embed(body, 4)')}, 'vectors');
	ok(wait_in_step('vectors', 'vectors'), 'a column of type vector is filled');
	is($sql->('SELECT count(*) FROM v WHERE e::real[] = llama_embed(body, 4)', 'vectors'), 2, 'with the embedding');
}

# ----------------------------------------------------------------
# Many writers, the worker, and a session that fills too
# ----------------------------------------------------------------

$sql->(q{CREATE SEQUENCE fresh START 1000;
	CREATE FUNCTION slow_upper(t text) RETURNS text LANGUAGE plpgsql STABLE AS
		$$ BEGIN PERFORM pg_sleep(0.001); RETURN upper(t); END $$;
	CREATE TABLE storm (id int PRIMARY KEY, body text, other int DEFAULT 0, up text, length int);
	INSERT INTO storm SELECT i, 'row ' || i FROM generate_series(1, 200) i;
	SELECT llama_sync('storm', 'up', 'slow_upper(body)', batch_rows => 20);
	SELECT llama_sync('storm', 'length', 'length(up)', batch_rows => 15)});
my $script = "$PostgreSQL::Test::Utils::tmp_check/storm.sql";
append_to_file($script, q{\set id random(1, 200)
\set op random(1, 7)
\if :op <= 2
UPDATE storm SET body = body || :id WHERE id = :id;
\elif :op = 3
DELETE FROM storm WHERE id = :id;
\elif :op = 4
INSERT INTO storm VALUES (:id, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body;
\elif :op = 5
BEGIN;
UPDATE storm SET id = nextval('fresh') WHERE id = :id;
INSERT INTO storm VALUES (:id, 'in its place') ON CONFLICT DO NOTHING;
COMMIT;
\elif :op = 6
UPDATE storm SET other = other + 1 WHERE id = :id;
\else
BEGIN;
UPDATE storm SET body = 'undone' WHERE id = :id;
ROLLBACK;
\endif
});
my $filler = spawn_sql($node, 'CALL llama_sync_run()');
$node->command_ok([ 'pgbench', '-n', '-c', 4, '-t', 250, '-f', $script, $node->connstr('postgres') ],
	'no writer fails, by a deadlock or otherwise');
finish_sql($filler);
ok(wait_in_step('the storm'), 'what many writers have changed is filled');
is($sql->('SELECT count(*) FROM storm WHERE up IS DISTINCT FROM upper(body) OR length IS DISTINCT FROM length(up)'), 0,
	'every value is its row\'s');

# ----------------------------------------------------------------
# Killed at any point
# ----------------------------------------------------------------

srand(23);
for my $round (1 .. 6)
{
	$sql->(qq{UPDATE docs SET body = body || '.$round' WHERE id % 7 <> $round;
		DELETE FROM docs WHERE id = $round * 5; INSERT INTO docs VALUES (100000 + $round, 'round $round')});
	my $writer = spawn_sql($node, q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP
		UPDATE docs SET body = 'by ' || i WHERE id = i % 30 + 1; COMMIT; END LOOP; END $$});
	sleep rand 0.15;
	my $victim = $round % 3 ? worker_pid() : $sql->('SELECT pg_backend_pid()');
	$victim = $round % 3 == 0 || $victim eq '' ? (worker_pids($node))[0] : $victim;
	kill 'KILL', $victim;
	finish_sql($writer);
	wait_until('the server is back', sub { $node->psql('postgres', 'SELECT 1') == 0 });
	ok(wait_in_step("round $round"), "after kill -9, round $round, filling goes on by itself");
	is($sql->($wrong), 0, "every value is its row's, round $round");
}

# The server is stopped in the midst of it.
$sql->(q{UPDATE docs SET body = body || ' and stopped'});
$node->stop('immediate');
$node->start;
ok(wait_in_step('after a start'), 'after an immediate stop filling goes on by itself');
is($sql->($wrong), 0, 'every value is its row\'s');

# A worker that is told to end comes back for what is left.
$gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$sql->(q{UPDATE gates SET body = 'terminated'});
wait_until('the worker computes', sub { $sql->($waiting) == 1 });
$sql->('SELECT pg_terminate_backend(' . worker_pid() . ')');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
ok(wait_in_step('after a termination'), 'a worker that was terminated comes back');
is($sql->('SELECT count(*) FROM gates WHERE up IS DISTINCT FROM upper(body)'), 0, 'every value is its row\'s');

# ----------------------------------------------------------------
# Dump and restore
# ----------------------------------------------------------------

$sql->(q{SELECT llama_sync_pause('gates', 'up'); UPDATE gates SET body = 'dumped' WHERE id = 1});
my $dump = "$PostgreSQL::Test::Utils::tmp_check/sync.dump";
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], 'pg_dump');
$sql->('CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
my $both = q{SELECT target, column_name, expression, source_columns, key_columns, batch_rows, background, owner,
	definition, queue FROM llama_syncs ORDER BY target::text, column_name};
is($sql->($both, 'copy'), $sql->($both), 'the restored database has the same syncs');
is($sql->(q{SELECT state, pending FROM llama_syncs JOIN llama_sync_lag USING (target, column_name)
	WHERE target = 'gates'::regclass}, 'copy'), 'paused|1', 'with their state and what is queued');
$sql->(q{SELECT llama_sync_resume('gates', 'up'); UPDATE docs SET body = 'in the copy' WHERE id < 5}, 'copy');
ok(wait_in_step('the copy', 'copy'), 'and is filled by itself');
is($sql->($wrong, 'copy'), 0, 'with what the expressions say');
is($sql->('SELECT up FROM gates WHERE id = 1', 'copy'), 'DUMPED', 'and what was queued in the original');
$sql->(q{SELECT llama_sync_remove('gates', 'up'); DROP TABLE docs}, 'copy');
is($sql->(q{SELECT count(*) FROM pg_class WHERE relname ~ '^(gates|docs)_[a-z]*_'}, 'copy'), 0, 'removing leaves nothing');
$sql->(q{UPDATE gates SET body = 'free again'}, 'copy');

# ----------------------------------------------------------------
# Dropping what the worker works on
# ----------------------------------------------------------------

$sql->('DROP DATABASE copy');
ok(1, 'the database can be dropped');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$sql->(q{SELECT llama_sync_resume('gates', 'up'); UPDATE gates SET body = 'dropped'});
wait_until('the worker computes', sub { $sql->($waiting) == 1 });
my $drop = spawn_sql($node, 'DROP TABLE gates');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is(finish_sql($drop), 0, 'the table can be dropped while a batch is computed');
is($sql->(q{SELECT count(*) FROM pg_class WHERE relname ~ '^gates_'}), 0, 'and takes all of it along');
is($sql->(q{SELECT count(*) FROM llama_syncs WHERE expression ~ 'gated'}), 0, 'llama_syncs does not show it');
$sql->(q{UPDATE docs SET body = 'last' WHERE id = 1});
ok(wait_in_step('others'), 'other tables are filled as before');
is($sql->($wrong), 0, 'with what the expressions say');
$sql->('DROP EXTENSION llama3 CASCADE');
is($sql->(q{SELECT count(*) FROM pg_trigger WHERE tgname ~ '_sync_'}), 0, 'DROP EXTENSION CASCADE leaves no trigger');
is($sql->(q{UPDATE docs SET body = 'without'; SELECT count(*) > 0 FROM docs}), 't', 'and tables can be written to');
ok(wait_until('the worker ends', sub { worker_pid() eq '' }), 'the worker ends');

$gate->quit;
$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC:|segmentation/, 'the log has no crash of its own');

done_testing();
