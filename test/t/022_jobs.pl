# Jobs over tables: killed at any point they end as if nothing had happened;
# they live beside other sessions' locks, updates and deletes, and with each
# other; they are throttled, cancelled, resumed, and end with what they work on.
#
# LLAMA3_JOB_ROWS is the number of rows that are killed over (default 100000).

use strict;
use warnings;
use lib '.', 't';
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $rows = $ENV{LLAMA3_JOB_ROWS} // 100000;
my $seed = $ENV{LLAMA3_JOB_SEED} // 20261123;

make_model('least.gguf', qw(--preset tiny --layers 1 --embd 64 --heads 2 --kv-heads 1
	--head-dim 32 --ff 64 --chat none --seed 3));
my $node = start_node('main', "llama3.models = 'least.gguf'", 'max_worker_processes = 16',
	'llama3.max_jobs = 4', 'client_min_messages = warning');

# What is written into a row, of its body alone.
my $answer = '(llama_embed(body, 4))[1]';

sub sql { return $node->safe_psql('postgres', join(";\n", @_)); }

sub progress
{
	my ($job, $columns) = @_;
	return sql("SELECT $columns FROM llama_progress WHERE job = $job");
}

# Wait for as long as the job goes on: what rows take hangs on the machine.
sub wait_for_job
{
	my ($job, $condition) = @_;
	my ($done, $since) = (-1, time);
	while (time < $since + $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($there, $now) = split /\|/, (eval { progress($job, "$condition, rows_done") } // '|');
		return 1 if ($there // '') eq 't';
		($done, $since) = ($now, time) if ($now // $done) != $done;
		sleep 0.02;
	}
	diag("job $job does not come to $condition");
	return 0;
}

sub wait_for_state
{
	my ($job, $state) = @_;
	return ok(wait_for_job($job, "state = '$state'"), "job $job becomes $state") || diag(progress($job, '*'));
}

sub start_job
{
	my ($arguments) = @_;
	return sql("SELECT llama_enrich_start($arguments)");
}

# A table of n rows, and a note of each update that was committed.
sub make_table
{
	my ($name, $n, $key) = @_;
	$key //= 'PRIMARY KEY';
	sql("CREATE TABLE $name (id int $key, body text, v float8, w float8)",
		"INSERT INTO $name SELECT i, 'text ' || i FROM generate_series(1, $n) i",
		"CREATE TABLE ${name}_audit (id int, who text DEFAULT current_user)",
		"CREATE FUNCTION ${name}_note() RETURNS trigger LANGUAGE plpgsql AS " .
		"'BEGIN INSERT INTO ${name}_audit VALUES (NEW.id); RETURN NEW; END'",
		"CREATE TRIGGER note AFTER UPDATE ON $name FOR EACH ROW EXECUTE FUNCTION ${name}_note()");
}

# Every row has the right answer, and was updated once.
sub is_complete
{
	my ($name, $what) = @_;
	is(sql("SELECT count(*) FROM $name WHERE v IS DISTINCT FROM $answer"), 0, "$what: every answer is right");
	is(sql("SELECT count(*) FROM (SELECT id FROM ${name}_audit GROUP BY id HAVING count(*) > 1) twice"), 0,
		"$what: no row was done twice");
	is(sql("SELECT count(*) FROM $name WHERE id NOT IN (SELECT id FROM ${name}_audit)"), 0,
		"$what: every row was done");
}

# When the server's shared memory was made.
sub memory_since
{
	my ($status, $out) = $node->psql('postgres', 'SELECT stats_since FROM llama_stat');
	die 'the server is down' unless $status == 0;
	return $out;
}

sub wait_for_server
{
	wait_until('the server is back', sub { ($node->psql('postgres', 'SELECT 1'))[0] == 0 })
	  or BAIL_OUT('the server did not come back');
}

# ----------------------------------------------------------------
# Killed at random points
# ----------------------------------------------------------------

srand($seed);
note("$rows rows, seed $seed");

sub kill_one
{
	my ($job, $what) = @_;
	my @victims = ('job', 'engine', 'postmaster', 'session', 'launcher');
	my $victim = $victims[rand @victims];
	my $pid = $victim eq 'job' ? progress($job, 'pid')
	  : $victim eq 'engine' ? (worker_pids($node))[0]
	  : $victim eq 'launcher' ? sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'llama3 launcher'")
	  : 0;
	my $done = progress($job, 'rows_done');
	my $since = memory_since();
	note("$what: $victim at $done rows");
	if ($victim eq 'postmaster')
	{
		my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
		my @children = split ' ', (run_command([ 'ps', '-o', 'pid=', '--ppid', $postmaster ]))[0];
		$node->kill9;
		# They notice by themselves, and hold its shared memory until then.
		wait_until('the killed server\'s processes are gone', sub { !grep { kill 0, $_ } @children });
		$node->start;
	}
	elsif ($victim eq 'session')
	{
		my $client = spawn_sql($node, 'SELECT pg_sleep(100)');
		wait_until('a session is there', sub {
			$pid = sql("SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(100)'") });
		kill 'KILL', $pid;
		finish_sql($client);
	}
	elsif ($pid)
	{
		kill 'KILL', $pid;
	}
	# Shared memory is new then; it takes the postmaster a moment to notice.
	ok(wait_until('the server is there again', sub { memory_since() ne $since }), "$what of $victim: the server is back");
	cmp_ok(progress($job, 'rows_done'), '>=', $done, "$what of $victim: finished batches stay");
}

# Rows that the job has told as failed, by their ids, with the reason.
sub failed_rows
{
	my ($name) = @_;
	return sql("SELECT t.id, e.sqlstate, e.message, e.retry FROM $name t JOIN llama_job_errors e ON e.target = '$name'::regclass " .
		"AND e.row_key IN (jsonb_build_object('id', t.id), jsonb_build_object('ctid', t.ctid, 'xmin', t.xmin)) ORDER BY t.id");
}

# A job over a table, some rows of which fail, that is killed at random points: it
# ends as the same job over the same table that nobody has disturbed.
sub kill_job
{
	my ($name, $n, $kills, $key) = @_;
	my $calm = "${name}_calm";
	my $bad = int($n / 20);
	my $assignment = "v = $answer / sign(id % $bad)";
	make_table($_, $n, $key) for $name, $calm;
	# Throttled, so that it does not end while the server comes back.
	my $job = start_job("'$name', '$assignment', batch_rows => " . (1 + int($n / 100)) . ', rows_per_second => ' . $n / 9);
	for my $kill (1 .. $kills)
	{
		# Somewhere in the next part of the job.
		my $from = int($n * ($kill - 1) / ($kills + 1));
		wait_for_job($job, "rows_done >= $from AND pid IS NOT NULL")
		  or BAIL_OUT('the job does not go on: ' . progress($job, '*'));
		sleep rand(0.2);
		kill_one($job, "$name, kill $kill");
	}
	wait_for_state($job, 'done');
	is(progress($job, 'rows_done, rows_failed, rows_locked'), ($n - 20) . '|20|0', "$name: rows were counted once");
	is(finish_sql(spawn_sql($node, "CALL llama_enrich('$calm', '$assignment')")), 0, "$name: an undisturbed run");
	is(sql("SELECT count(*) FROM $name k FULL JOIN $calm c USING (id) WHERE k.v IS DISTINCT FROM c.v"), 0,
		"$name: the same answers");
	is(failed_rows($name), failed_rows($calm), "$name: the same rows failed");
	is(sql("SELECT count(*), count(DISTINCT id) FROM ${name}_audit"), join('|', ($n - 20) x 2), "$name: no row was done twice");
	is(sql("SELECT count(*) FROM $calm WHERE id % 50 = 7 AND v IS DISTINCT FROM $answer"), 0, "$name: and they are right");
}

kill_job('killed', $rows, 10, 'PRIMARY KEY');
kill_job('killed_heap', 6000, 4, '');

# A clean restart, and a session that is killed in a CALL.
make_table('restarted', 2000);
my $job = start_job("'restarted', 'v = $answer', batch_rows => 50, rows_per_second => 2000");
wait_until('some rows are done', sub { progress($job, 'rows_done > 200') eq 't' });
$node->restart;
wait_for_state($job, 'done');
is_complete('restarted', 'after a restart');

make_table('called', 2000);
my $call = "CALL llama_enrich('called', 'v = $answer', batch_rows => 50, rows_per_second => 1000)";
my $client = spawn_sql($node, $call);
wait_until('some rows are done', sub { sql('SELECT count(v) > 200 FROM called') eq 't' });
kill 'KILL', sql("SELECT pid FROM llama_progress WHERE target = 'called'::regclass");
finish_sql($client);
wait_for_server();
$job = sql("SELECT job FROM llama_progress WHERE target = 'called'::regclass");
is(progress($job, 'state'), 'interrupted', 'a killed CALL is interrupted');
is(finish_sql(spawn_sql($node, $call)), 0, 'and goes on when it is called again');
is(sql("SELECT count(*) FROM llama_progress WHERE target = 'called'::regclass AND state = 'done'"), 1, 'as the same job');
is_complete('called', 'after a killed CALL');

# ----------------------------------------------------------------
# Beside others
# ----------------------------------------------------------------

# Rows that somebody has locked are left for later.
make_table('locked', 300);
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT id FROM locked WHERE id IN (3, 4, 200) FOR UPDATE; UPDATE locked SET w = 1 WHERE id = 4;');
$job = start_job("'locked', 'v = $answer', batch_rows => 40");
ok(wait_until('all others are done', sub { progress($job, "rows_done = 297 AND rows_locked = 3 AND state = 'running'") eq 't' }),
	'locked rows are skipped');
is(sql('SELECT string_agg(id::text, \' \' ORDER BY id) FROM locked WHERE v IS NULL'), '3 4 200', 'those and no others');
$client = spawn_sql($node, "CALL llama_enrich('locked', 'v = $answer', 'id < 1000')");
$holder->query_safe('DELETE FROM locked WHERE id = 200; COMMIT;');
wait_for_state($job, 'done');
is(finish_sql($client), 0, 'another job on the table ends too');
is(sql('SELECT count(v), count(*) FROM locked'), '299|299', 'and done when they are free');
is(sql("SELECT count(*) FROM llama_job_errors WHERE job = $job"), 0, 'without a trace');
is(sql('SELECT max(n) FROM (SELECT count(*) n FROM locked_audit WHERE id <> 4 GROUP BY id) c'), 1, 'once');
# Without a primary key, when the locked row has moved.
make_table('heap', 300, '');
$holder->query_safe('BEGIN; UPDATE heap SET w = 1 WHERE id IN (7, 8);');
$job = start_job("'heap', 'v = $answer', batch_rows => 40");
wait_until('the others are done', sub { progress($job, "rows_done = 298 AND rows_locked = 2") eq 't' });
$holder->query_safe('COMMIT;');
wait_for_state($job, 'done');
is(sql("SELECT count(*) FROM heap WHERE v IS DISTINCT FROM $answer"), 0, 'a locked row without a key that moved is found');
$holder->quit;

# Two jobs on one table, and sessions that update, insert and delete.
make_table('busy', 3000);
$client = spawn_sql($node, q{DO $$ BEGIN
	FOR i IN 1 .. 400 LOOP
		UPDATE busy SET body = 'new ' || i, v = NULL, w = NULL WHERE id = 1 + (i * 37) % 3000;
		DELETE FROM busy WHERE id = 1 + (i * 101) % 3000;
		INSERT INTO busy VALUES (3000 + i, 'late ' || i);
		COMMIT;
	END LOOP; END $$});
my @jobs = (start_job("'busy', 'v = $answer', batch_rows => 70"),
	start_job("'busy', 'w = ($answer) * 2', batch_rows => 90"),
	start_job("'busy', 'v = $answer, w = ($answer) * 2', 'id % 2 = 0', batch_rows => 30"));
is(finish_sql($client), 0, 'updates and deletes go on');
wait_for_state($_, 'done') for @jobs;
# What came behind the jobs' back is found by the next call.
sql("CALL llama_enrich('busy', 'v = $answer, w = ($answer) * 2', 'true')");
is(sql("SELECT count(*) FROM busy WHERE v IS DISTINCT FROM $answer OR w IS DISTINCT FROM ($answer) * 2"), 0,
	'two jobs and other writers: every answer is right');
is(sql("SELECT count(*) FROM llama_job_errors WHERE target = 'busy'::regclass"), 0, 'and no row failed');

# Statements are told of, too, until they end.
$client = spawn_sql($node, "SELECT count(llama_embed(body || i, 4)) FROM killed, generate_series(1, 1000) i");
ok(wait_until('the statement is there', sub {
	sql("SELECT pid FROM llama_progress WHERE kind = 'statement' AND rows_done > 0 AND rows_total > 0") }),
	'a running statement is in llama_progress');
sql("SELECT pg_cancel_backend(pid) FROM llama_progress WHERE kind = 'statement'");
finish_sql($client);
is(sql("SELECT count(*) FROM llama_progress WHERE kind = 'statement'"), 0, 'and no more when it has ended');

# ----------------------------------------------------------------
# Cancel, resume, errors
# ----------------------------------------------------------------

make_table('slow', 1000);
$job = start_job("'slow', 'v = $answer', batch_rows => 10, rows_per_second => 50");
wait_for_job($job, 'rows_done > 0');
($client = spawn_sql($node, "CALL llama_enrich('slow', 'v = $answer', batch_rows => 20)")) && finish_sql($client);
is(sqlstate_of($client->{err}), '55006', 'the same job twice is refused');
is(sql("SELECT llama_job_cancel($job)"), 't', 'a job that pauses is cancelled');
ok(wait_until('its process is gone', sub {
	sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llama3 job'") == 0 }), 'its process ends');
is(progress($job, 'state'), 'cancelled', 'its state is cancelled');
my $done = progress($job, 'rows_done');
is(sql('SELECT count(v) FROM slow'), $done, 'finished batches stay');
sleep 1.5;
is(progress($job, 'state'), 'cancelled', 'nobody starts it again');
is(sql("SELECT llama_job_cancel($job)"), 'f', 'there is nothing more to cancel');
sql("UPDATE llama_jobs SET options = options - 'rows_per_second' WHERE id = $job");
is(sql("SELECT llama_job_resume($job)"), 't', 'it is resumed');
wait_for_state($job, 'done');
is(progress($job, 'rows_done'), 1000, 'with the count of before');
is_complete('slow', 'cancelled and resumed');
is(sql("SELECT llama_job_resume($job)"), 'f', 'there is nothing more to resume');
sql("SELECT llama_job_forget($job)");
is(progress($job, 'count(*)'), 0, 'it is forgotten');

# A cancelled CALL, in a batch that takes long.
sql('UPDATE slow SET v = NULL', "CREATE FUNCTION wait(text) RETURNS float8 LANGUAGE plpgsql AS " .
	"'BEGIN PERFORM pg_sleep(100) WHERE \$1 = ''text 100''; RETURN 1; END'");
$client = spawn_sql($node, "CALL llama_enrich('slow', 'v = wait(body)', batch_rows => 30)");
ok(wait_until('it waits', sub { sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") eq 't' }),
	'a CALL is cancelled');
finish_sql($client);
is(sqlstate_of($client->{err}), '57014', 'with 57014');
is(sql('SELECT count(v) FROM slow'), 90, 'its finished batches stay');
is(sql("SELECT state FROM llama_progress WHERE target = 'slow'::regclass ORDER BY job DESC LIMIT 1"), 'interrupted', 'and it is interrupted');

# Rows that fail, in the background.
make_table('bad', 500);
$job = start_job("'bad', 'v = $answer / (id % 100)', batch_rows => 120");
wait_for_state($job, 'done');
is(sql("SELECT string_agg(row_key->>'id', ' ' ORDER BY row_key), min(sqlstate), bool_or(retry) FROM llama_job_errors WHERE job = $job"),
	'100 200 300 400 500|22012|f', 'bad rows are told');
is(progress($job, 'rows_done, rows_failed'), '495|5', 'and counted');
is(sql('SELECT count(*), count(DISTINCT id) FROM bad_audit'), '495|495', 'the others are done once');
# What is no row's fault.
sql('CREATE FUNCTION later(float8) RETURNS float8 LANGUAGE sql AS \'SELECT 1.0::float8\'');
$job = start_job("'bad', 'w = later(v) ', 'id % 100 > 0', batch_rows => 10, rows_per_second => 100");
wait_for_job($job, 'rows_done > 0');
sql('DROP FUNCTION later');
wait_for_state($job, 'failed');
is(progress($job, 'sqlstate'), '42883', 'an error that is no row\'s ends the job and is told');

# ----------------------------------------------------------------
# Throttle and bounds
# ----------------------------------------------------------------

make_table($_, 10) for 'second', 'third';
make_table('slowly', 400);
$node->append_conf('postgresql.conf', "llama3.job_rows_per_second = 1\nllama3.max_jobs = 1");
$node->reload;
wait_until('the limit is there', sub { sql('SHOW llama3.job_rows_per_second') eq '1' });
# A pause of minutes after each batch.
$job = start_job("'slowly', 'v = $answer', batch_rows => 200");
wait_for_job($job, 'rows_done > 0');
my ($second, $third) = map { start_job("'$_', 'v = $answer'") } 'second', 'third';
sleep 1;
is(progress($second, 'state'), 'queued', 'no more than llama3.max_jobs run');
is(progress($job, 'rows_done'), 200, 'the job is throttled');
# The owner of a job that waits is about to change it.
$holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; UPDATE llama_jobs SET message = 'changed' WHERE id = $second;");
$node->append_conf('postgresql.conf', 'llama3.job_rows_per_second = 0');
$node->reload;
ok(wait_for_job($job, "state = 'done'"), 'a pause ends when the limit does');
wait_for_state($third, 'done');
is(progress($second, 'state'), 'queued', 'a job whose row is locked keeps no other from running');
$holder->query_safe('ROLLBACK');
$holder->quit;
wait_for_state($second, 'done');
is_complete('slowly', 'throttled');
$node->append_conf('postgresql.conf', 'llama3.max_jobs = 4');
$node->reload;

# ----------------------------------------------------------------
# Whose job it is
# ----------------------------------------------------------------

sql('CREATE ROLE clerk LOGIN', 'CREATE ROLE other LOGIN', 'CREATE ROLE ghost', 'CREATE SCHEMA own',
	'GRANT ALL ON SCHEMA own TO clerk', 'GRANT CREATE ON SCHEMA public TO ghost');
make_table('theirs', 200);
sql('GRANT SELECT, UPDATE (v) ON theirs TO clerk', 'GRANT INSERT ON theirs_audit TO clerk',
	"CREATE FUNCTION own.mine(text) RETURNS float8 LANGUAGE sql AS 'SELECT length(\$1)::float8'",
	"CREATE FUNCTION public.mine(text) RETURNS float8 LANGUAGE sql AS 'SELECT -1.0::float8'");
$job = sql('SET ROLE clerk', 'SET search_path = own, public', 'SET llama3.max_tokens = 7',
	"SELECT llama_enrich_start('theirs', 'v = mine(body) + current_setting(''llama3.max_tokens'')::int', batch_rows => 10, rows_per_second => 100)");
wait_for_job($job, 'rows_done > 0');
is(sql('SET ROLE other', 'SELECT count(*) FROM llama_progress'), 0, 'others do not see the job');
$client = spawn_sql($node, "SET ROLE other; SELECT llama_job_cancel($job)");
finish_sql($client);
is(sqlstate_of($client->{err}), '42704', 'nor cancel it');
wait_for_state($job, 'done');
is(sql('SELECT count(*) FROM theirs WHERE v IS DISTINCT FROM own.mine(body) + 7'), 0, 'search_path and settings are those of the start');
is(sql('SELECT string_agg(DISTINCT who, \' \') FROM theirs_audit'), 'clerk', 'the role is the owner');
$client = spawn_sql($node, "SET ROLE ghost; SELECT llama_enrich_start('theirs', 'v = 1')");
finish_sql($client);
is(sqlstate_of($client->{err}), '28000', 'a role that cannot log in has no background jobs');
# Others may put functions beside the internal ones: the launcher, a superuser, calls none of them.
sql('GRANT CREATE ON SCHEMA public TO clerk', 'SET ROLE clerk', 'CREATE TABLE own.caught (who text)',
	"CREATE FUNCTION own.catch() RETURNS boolean LANGUAGE sql AS 'INSERT INTO own.caught VALUES (current_user) RETURNING true'",
	(map { "CREATE FUNCTION public._llama_job_$_ RETURNS boolean LANGUAGE sql AS 'SELECT own.catch()'" }
		'note_start(integer)', 'note_start(bigint, boolean DEFAULT true)', 'look(integer, boolean)', 'look(bigint, boolean, text DEFAULT NULL)',
		'note_error(integer, text, text)'),
	"CREATE PROCEDURE public._llama_job_run(integer) LANGUAGE sql AS 'SELECT own.catch()'",
	"CREATE FUNCTION public._llama_jobs_due(boolean, text DEFAULT NULL) RETURNS TABLE (job bigint, role oid, at timestamptz) " .
	"LANGUAGE sql AS 'SELECT 1, 10, now() FROM own.catch()'");
make_table('guarded', 30);
$job = start_job("'guarded', 'v = $answer', batch_rows => 10");
wait_for_state($job, 'done');
is(sql('SELECT count(*) FROM own.caught'), 0, 'overloads of internal functions are not called');
sql("DO \$\$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE proowner = 'clerk'::regrole AND pronamespace = 'public'::regnamespace " .
	'LOOP EXECUTE format(\'DROP ROUTINE %s\', f); END LOOP; END $$');
# The role cannot log in any more.
sql('UPDATE theirs SET v = NULL');
$job = sql('SET ROLE clerk', "SELECT llama_enrich_start('theirs', 'v = 2', batch_rows => 1, rows_per_second => 20)");
wait_for_job($job, 'rows_done > 0');
sql('ALTER ROLE clerk NOLOGIN', "SELECT pg_terminate_backend(pid) FROM llama_progress WHERE job = $job");
wait_for_state($job, 'failed');
is(progress($job, 'sqlstate'), '28000', 'a role that may not log in any more ends it');

# ----------------------------------------------------------------
# What it works on goes away
# ----------------------------------------------------------------

my $endless = "'v = $answer', batch_rows => 1, rows_per_second => 20";
make_table('dropped', 1000);
$job = start_job("'dropped', $endless");
wait_for_job($job, 'rows_done > 0');
sql('DROP TABLE dropped');
wait_for_state($job, 'failed');
is(progress($job, 'sqlstate, message'), '42P01|the table does not exist any more', 'a table that is dropped ends the job');

# Another table gets its name: the job goes on with its own, by whatever name.
make_table($_, 400) for 'named', 'spare';
$job = start_job("'named', 'v = $answer', batch_rows => 10, rows_per_second => 200");
wait_for_job($job, 'rows_done > 0');
sql('BEGIN', 'ALTER TABLE named RENAME TO before', 'ALTER TABLE spare RENAME TO named', 'COMMIT');
wait_for_state($job, 'done');
is(sql('SELECT count(*) FROM named WHERE v IS NOT NULL'), 0, 'another table that got its name is left alone');
is(sql('SELECT count(*), count(DISTINCT id) FROM named_audit'), '400|400', 'the table that it began with is done');
# Its key goes, or is another, in the middle.
sql('CREATE TABLE rekeyed (id int PRIMARY KEY, other int NOT NULL, v int)', 'INSERT INTO rekeyed SELECT i, -i FROM generate_series(1, 400) i');
$job = start_job("'rekeyed', 'v = id', batch_rows => 10, rows_per_second => 200");
wait_for_job($job, 'rows_done > 50');
sql('ALTER TABLE rekeyed DROP CONSTRAINT rekeyed_pkey');
wait_for_job($job, 'rows_done > 150');
sql('ALTER TABLE rekeyed ADD PRIMARY KEY (other, id)');
wait_for_job($job, 'rows_done > 250');
sql('ALTER TABLE rekeyed RENAME other TO still_other');
wait_for_state($job, 'done');
is(sql('SELECT count(v), count(*) FROM rekeyed'), '400|400', 'a key that changes loses no row');

# A database of its own: the extension is dropped, then the database.
sub in_db
{
	my ($sql) = @_;
	return $node->safe_psql('passing', $sql);
}
sql('CREATE DATABASE passing');
for my $end ('DROP EXTENSION llama3', 'DROP DATABASE passing WITH (FORCE)')
{
	in_db('CREATE EXTENSION llama3; DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, body text, v float8);' .
		"INSERT INTO t SELECT i, 'text ' || i FROM generate_series(1, 1000) i");
	in_db("SELECT llama_enrich_start('t', $endless)");
	wait_until('it runs', sub { in_db('SELECT rows_done > 0 FROM llama_progress') eq 't' });
	if ($end =~ /DATABASE/)
	{
		$client = spawn_sql($node, 'DROP DATABASE passing');
		finish_sql($client);
		is(sqlstate_of($client->{err}), '55006', 'a database with a running job is in use');
		is(finish_sql(spawn_sql($node, $end)), 0, $end);
	}
	else
	{
		in_db($end);
		pass($end);
	}
	ok(wait_until('no process is left', sub {
		sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llama3 job'") == 0 }), "$end ends the job");
}
make_table('after', 50);
$job = start_job("'after', 'v = $answer'");
wait_for_state($job, 'done');

# ----------------------------------------------------------------
# A standby, and a server without room for processes
# ----------------------------------------------------------------

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my ($status, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\nCALL llama_enrich('after', 'w = 1')");
like($err, qr/25006: llama_enrich cannot run during recovery/, 'a standby refuses');
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'llama3 launcher'"), 0,
	'and has no launcher');
is($standby->safe_psql('postgres', "SELECT state FROM llama_progress WHERE job = $job"), 'done', 'it shows the primary\'s jobs');
$standby->stop('immediate');

# PostgreSQL's own logical replication launcher takes one, llama3 three.
$node->append_conf('postgresql.conf', "max_worker_processes = 5\nmax_parallel_workers = 1");
$node->restart;
sql('UPDATE after SET v = NULL', 'TRUNCATE after_audit');
$job = start_job("'after', 'v = $answer', 'true', batch_rows => 5, rows_per_second => 50");
wait_for_job($job, 'rows_done > 0');
make_table('waits', 10);
$second = start_job("'waits', 'v = $answer'");
wait_for_state($job, 'done');
wait_for_state($second, 'done');
is_complete('waits', 'after a wait for a process');
is_complete('after', 'in the only process that was free');
is(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('llama3 job', 'llama3 job scan')"), 0, 'nobody is left');

$node->stop;
done_testing();
