# What owners can do to what a sync is made of: nothing runs with another role's
# rights, nothing crashes, and no other sync is kept from its work.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $node = start_node('sync_owners');
my $sql = sub { $node->safe_psql('postgres', $_[0]) };
my $as = sub { my ($role, $query) = @_; return $sql->("SET SESSION AUTHORIZATION $role; $query") };

# What it raises, or ''.
sub error_of
{
	my ($role, $query) = @_;
	my ($status, undef, $err) = $node->psql('postgres', "SET SESSION AUTHORIZATION $role; $query",
		on_error_stop => 1);
	return $status == 0 ? '' : $err =~ /ERROR:\s+(.*)/ ? $1 : 'died';
}

sub worker_pid { return $sql->(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'llama3 sync'}) }

# A column of somebody else, which shall be filled whatever happens to others.
my $round = 0;
sub others_are_filled
{
	my ($when) = @_;
	$round++;
	$sql->("UPDATE other SET body = 'round $round'");
	return ok(wait_until("others are filled $when",
			sub { $sql->('SELECT up FROM other') eq "ROUND $round" }), "others are filled $when");
}

# The state of a column as its table's owner sees it.
sub told
{
	my ($table) = @_;
	return $sql->("SELECT sqlstate || ': ' || message FROM llama_sync_lag WHERE target = '$table'::regclass");
}

$sql->(q{CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE mallory;
	CREATE SCHEMA alice AUTHORIZATION alice; GRANT ALL ON SCHEMA alice TO bob; GRANT USAGE ON SCHEMA alice TO mallory;
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	CREATE TABLE secrets (id bigint PRIMARY KEY, body text, message text);
	INSERT INTO secrets VALUES (1, 'a', 'unread'), (2, 'b', 'unread')});
$as->('alice', q{CREATE FUNCTION alice.evil(t text) RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN RETURN 'read by ' || current_user; END $$});

# A table of alice's with a sync and two changed rows in its queue, paused.
sub make_table
{
	my ($name) = @_;
	$as->('alice', qq{CREATE TABLE alice.$name (id bigint PRIMARY KEY, body text, message text);
		SELECT llama_sync('alice.$name', 'message', 'upper(body)');
		SELECT llama_sync_pause('alice.$name', 'message');
		INSERT INTO alice.$name VALUES (1, 'first'), (2, 'second')});
}

sub resume { my ($name) = @_; $as->('alice', "SELECT llama_sync_resume('alice.$name', 'message')") }

# ----------------------------------------------------------------
# Rights
# ----------------------------------------------------------------

# The definition is the owner's, who can make another of it.
$sql->(q{CREATE TABLE other (id int PRIMARY KEY, body text, up text); INSERT INTO other VALUES (1, 'x');
	SELECT llama_sync('other', 'up', 'upper(body)')});
$as->('alice', q{CREATE TABLE alice.a (id bigint PRIMARY KEY, body text, message text);
	SELECT llama_sync('alice.a', 'message', 'upper(body)')});
$as->('alice', q{BEGIN; INSERT INTO alice.a VALUES (1, 'first'), (2, 'second');
	CREATE OR REPLACE VIEW alice.a_message_sync AS
	SELECT t.id AS key1, t.message AS current, alice.evil(t.message) AS value, t.body AS source1 FROM public.secrets t;
	COMMIT});
others_are_filled('beside a definition that reads another\'s table');
is($sql->(q{SELECT string_agg(message, ',') FROM secrets}), 'unread,unread',
	'who replaces a definition gains nothing by it');
is(told('alice.a'), q{55000: view "a_message_sync" is not what llama_sync made}, 'and is told');
is(error_of('alice', q{CALL llama_sync_run('alice.a')}),
	'cannot keep column "message" of table "a" in step', 'nor can it be run');
$as->('alice', q{SELECT llama_sync_remove('alice.a', 'message'); DROP TABLE alice.a});
is($sql->(q{SELECT count(*) FROM pg_class WHERE relname ~ '^a_message'}), 0, 'but removed');

# A trigger of the sync's function that is shown rows under other names.
make_table('t');
$sql->('GRANT SELECT, INSERT, TRIGGER ON alice.t TO mallory');
my $id = $sql->(q{SELECT substr(encode(tgargs, 'escape'), 1, 36) FROM pg_trigger
	WHERE tgname = 't_message_sync_insert'});
$as->('mallory', q{CREATE TABLE mallory.seen (who text); GRANT INSERT ON mallory.seen TO PUBLIC;
	GRANT USAGE ON SCHEMA mallory TO PUBLIC;
	CREATE FUNCTION mallory.look() RETURNS bigint LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO mallory.seen VALUES (current_user); RETURN 1; END $$;
	CREATE VIEW mallory.llama_new AS SELECT mallory.look() AS id; GRANT SELECT ON mallory.llama_new TO PUBLIC});
like(error_of('mallory', qq{
	CREATE TRIGGER x AFTER INSERT ON alice.t REFERENCING NEW TABLE AS n EXECUTE FUNCTION _llama_sync_changed('$id');
	SET search_path = mallory, public; INSERT INTO alice.t VALUES (3, 'third')}),
	qr/_llama_sync_changed must be called by the triggers that llama_sync makes/, 'a trigger of another\'s is refused');
is($sql->(q{SELECT count(*) FROM mallory.seen WHERE who = 'alice'}), 0, 'and runs nothing as the owner');
$sql->('DROP TABLE alice.t');

# Who had the table before still has the queue: a trigger on it that waits for
# the end of the transaction would run as who writes to the table.
make_table('d');
$as->('alice', q{CREATE TABLE alice.seen (who text); GRANT INSERT ON alice.seen TO PUBLIC;
	CREATE FUNCTION alice.note() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO alice.seen VALUES (current_user); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON alice.d_message_queue DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION alice.note()});
$sql->('ALTER TABLE alice.d OWNER TO postgres');
like(error_of('postgres', q{INSERT INTO alice.d VALUES (4, 'fourth')}), qr/cannot fire deferred trigger/,
	'a deferred trigger on the queue is refused');
is($sql->(q{SELECT count(*) FROM alice.seen WHERE who = 'postgres'}), 0, 'and does not run as who writes to the table');
$sql->(q{SELECT llama_sync_remove('alice.d', 'message'); DROP TABLE alice.d});

# Settings that one owner's expression makes are not another's.
my $zone = $sql->('SHOW timezone');
$as->('alice', q{CREATE FUNCTION alice.set(t text) RETURNS text LANGUAGE sql AS
		$$ SELECT set_config('timezone', 'Asia/Tokyo', false) || set_config('lock_timeout', '1s', false) $$;
	CREATE TABLE alice.s (id int PRIMARY KEY, body text, done text); INSERT INTO alice.s VALUES (1, 'x');
	SELECT llama_sync('alice.s', 'done', 'alice.set(body)')});
$sql->(q{CREATE TABLE zones (id int PRIMARY KEY, body text, zone text); INSERT INTO zones VALUES (1, 'x');
	SELECT llama_sync('zones', 'zone', $$current_setting('timezone') || left(body, 0)$$)});
ok(wait_until('both', sub { $sql->('SELECT count(done) FROM alice.s') && $sql->('SELECT count(zone) FROM zones') }),
	'two owners\' columns are filled');
$sql->(q{UPDATE alice.s SET body = 'y'});
ok(wait_until('the setting', sub { $sql->('SELECT count(*) FROM alice.s_done_queue') == 0 }), 'one makes a setting');
$sql->(q{UPDATE zones SET body = 'y'});
ok(wait_until('the other', sub { $sql->('SELECT count(*) FROM zones_zone_queue') == 0 }), 'the other reads it');
is($sql->('SELECT zone FROM zones'), $zone, 'and finds the server\'s');
$sql->('DROP TABLE alice.s, zones');

# ----------------------------------------------------------------
# Definitions and queues of any shape
# ----------------------------------------------------------------

make_table('shapes');
my @shapes = (
	q{t.id AS key1, t.message || '' AS current, upper(t.body) AS value FROM alice.shapes t},
	q{t.id + 0 AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t},
	q{t.id AS key1, t.message AS current, upper(t.message) AS value FROM alice.shapes t},
	q{t.id AS key1, t.message AS current, t::text AS value FROM alice.shapes t},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value, t.ctid AS source1 FROM alice.shapes t},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value, t.body AS key2 FROM alice.shapes t},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t WHERE t.id > 1},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t LIMIT 1},
	q{t.id AS key1, t.message AS current, (SELECT upper(t.body)) AS value FROM alice.shapes t},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t, alice.shapes u},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t JOIN alice.shapes u USING (id)},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t TABLESAMPLE system (50)},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes_view t},
	q{DISTINCT t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t},
	q{max(t.id) AS key1, max(t.message) AS current, max(t.body) AS value FROM alice.shapes t},
	q{t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t UNION ALL SELECT 1, 'a', 'b'},
	q{1::bigint AS key1, 'a'::text AS current, 'b'::text AS value},
	q{b.* FROM (VALUES (1::bigint, 'a'::text, 'b'::text)) b (key1, current, value)});
$as->('alice', q{CREATE VIEW alice.shapes_view AS SELECT * FROM alice.shapes});
my $definition = q{t.id AS key1, t.message AS current, upper(t.body) AS value FROM alice.shapes t};
for my $shape (@shapes)
{
	# Columns can be added to a view, but not taken away.
	$as->('alice', q{DROP VIEW IF EXISTS alice.shapes_view CASCADE; DROP TABLE alice.shapes CASCADE});
	make_table('shapes');
	$as->('alice', qq{CREATE VIEW alice.shapes_view AS SELECT * FROM alice.shapes;
		CREATE OR REPLACE VIEW alice.shapes_message_sync AS SELECT $shape});
	resume('shapes');
	is(told('alice.shapes'), q{55000: view "shapes_message_sync" is not what llama_sync made}, "told: $shape");
	is($as->('alice', 'SELECT count(*) FROM llama_syncs'), 1, 'and shown');
}
others_are_filled('beside views of any shape');
is(error_of('alice', q{UPDATE alice.shapes SET body = 'z'}), '', 'the table can be written to');
is($sql->('SELECT count(message) FROM alice.shapes'), 0, 'but nothing is filled');
is(error_of('alice', q{SELECT llama_sync('alice.shapes', 'message', 'lower(body)')}),
	'column "message" of table "shapes" is kept in step already', 'it has to be removed first');
$as->('alice', q{SELECT llama_sync_remove('alice.shapes', 'message'); DROP TABLE alice.shapes CASCADE});

make_table('shapes');
for my $change (q{ALTER message TYPE int USING 1}, q{ALTER version DROP DEFAULT, ALTER version TYPE text USING ''},
	q{ALTER queued_at DROP DEFAULT, ALTER queued_at TYPE int USING 1}, q{ALTER key1 TYPE text},
	q{DROP COLUMN sqlstate}, q{FORCE ROW LEVEL SECURITY, ENABLE ROW LEVEL SECURITY})
{
	$as->('alice', qq{DROP TABLE alice.shapes CASCADE});
	make_table('shapes');
	$as->('alice', qq{UPDATE alice.shapes_message_queue SET sqlstate = 'XX000' WHERE key1 = 1;
		ALTER TABLE alice.shapes_message_queue $change});
	resume('shapes');
	is(told('alice.shapes'), q{55000: table "shapes_message_queue" is not what llama_sync made}, "told: $change");
	is($sql->('SELECT count(*) FROM llama_sync_errors'), 0, 'its entries are not read');
}
others_are_filled('beside queues of any shape');
$as->('alice', q{DROP TABLE alice.shapes CASCADE});
make_table('shapes');
$as->('alice', q{ALTER TABLE alice.shapes_message_queue RENAME TO shapes_old;
	CREATE TABLE alice.heir () INHERITS (alice.shapes_old)});
resume('shapes');
is(told('alice.shapes'), q{55000: table "shapes_old" is not what llama_sync made}, 'told: an heir');
$as->('alice', q{DROP TABLE alice.heir});
is(told('alice.shapes'), '', 'and what is as before is as before');
$as->('alice', q{DROP TABLE alice.shapes_old});
is(told('alice.shapes'), '55000: its queue does not exist', 'told: no queue');
others_are_filled('beside one without queue');
$as->('alice', q{SELECT llama_sync_remove('alice.shapes', 'message')});
is($sql->(q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'message_sync'}), 0, 'removing leaves no trigger');
$as->('alice', q{DROP TABLE alice.shapes});

# ----------------------------------------------------------------
# Another owner
# ----------------------------------------------------------------

make_table('o');
resume('o');
ok(wait_until('o', sub { $sql->('SELECT count(message) FROM alice.o') == 2 }), 'a table is filled');
$sql->('ALTER TABLE alice.o OWNER TO bob');
$as->('bob', q{UPDATE alice.o SET body = 'of bob' WHERE id = 1});
others_are_filled('beside a table that has changed hands');
is(told('alice.o'), q{55000: "o_message_sync" belongs to role "alice", not to "bob"}, 'and it is told');
is($as->('bob', q{SELECT pending FROM llama_sync_lag}), 1, 'changes are queued');
$sql->('ALTER VIEW alice.o_message_sync OWNER TO bob');
is(told('alice.o'), q{55000: "o_message_queue" belongs to role "alice", not to "bob"}, 'until view and queue follow');
$sql->('ALTER TABLE alice.o_message_queue OWNER TO bob');
$as->('bob', q{SELECT llama_sync_resume('alice.o', 'message')});
ok(wait_until('o', sub { $sql->('SELECT message FROM alice.o WHERE id = 1') eq 'OF BOB' }), 'and then filled');
$sql->('ALTER TABLE alice.o OWNER TO alice');
is(error_of('bob', q{SELECT llama_sync_remove('alice.o', 'message')}),
	'must be owner of table o', 'the former owner cannot remove it');
is(error_of('alice', q{SELECT llama_sync_remove('alice.o', 'message')}), '', 'the new owner can');
is($sql->(q{SELECT count(*) FROM pg_class WHERE relname ~ '^o_message'}), 0, 'and nothing is left');
$as->('alice', q{SELECT llama_sync('alice.o', 'message', 'lower(body)')});
$sql->('ALTER TABLE alice.o OWNER TO bob');
is(error_of('postgres', q{SELECT llama_sync_remove('alice.o', 'message')}), '', 'and so can a superuser');
$sql->('DROP TABLE alice.o');

# ----------------------------------------------------------------
# Transactions that are left open
# ----------------------------------------------------------------

make_table('l');
resume('l');
ok(wait_until('l', sub { $sql->('SELECT count(message) FROM alice.l') == 2 }), 'a table is filled');
my $idle = $node->background_psql('postgres');

# The scan that starts a worker, and the worker, with and without something to do.
sub left_open
{
	my ($what, $meanwhile) = @_;
	ok(wait_until("the worker ends", sub { worker_pid() eq "" }), "no worker is there");
	$idle->query_safe("BEGIN; $what");
	$sql->($meanwhile) if defined $meanwhile;
	others_are_filled("while \"$what\" is open");
	others_are_filled("and go on being filled");
	$idle->query_safe("ROLLBACK");
}
my $pause = q{SELECT llama_sync_pause('alice.l', 'message')};
left_open(q{SELECT llama_sync_remove('alice.l', 'message')});
left_open(q{LOCK TABLE alice.l_message_queue IN ACCESS EXCLUSIVE MODE});
left_open($pause, q{UPDATE alice.l SET body = 'while paused'});
$sql->(qq{$pause; UPDATE alice.l SET body = 'queued'});
left_open(q{LOCK TABLE alice.l IN ACCESS EXCLUSIVE MODE}, q{SELECT llama_sync_resume('alice.l', 'message')});
$sql->(q{UPDATE alice.l SET body = 'in the end'});
ok(wait_until('l', sub { $sql->('SELECT DISTINCT message FROM alice.l') eq 'IN THE END' }),
	'in the end it is filled too');

# Who removes waits for who writes to the table, and not he for him.
$idle->query_safe('BEGIN; LOCK TABLE alice.l IN ROW EXCLUSIVE MODE');
my $remove = spawn_sql($node, q{SELECT llama_sync_remove('alice.l', 'message')});
wait_until('he waits', sub {
	$sql->(q{SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'alice.l'::regclass}) == 1 });
ok(eval { $idle->query_safe(q{UPDATE alice.l SET body = 'meanwhile'; COMMIT}); 1 },
	'a writer goes on while a sync is to be removed');
is(finish_sql($remove), 0, 'which is removed after that');
$idle->quit;

# ----------------------------------------------------------------
# Dumps by who owns the database and nothing else
# ----------------------------------------------------------------
# A function that fits better than ours, in the schema that ours is in

$sql->(q{CREATE TABLE calls (who text); GRANT INSERT ON calls TO PUBLIC; GRANT CREATE ON SCHEMA public TO mallory});
$as->('mallory', q{CREATE FUNCTION public._llama_sync_differ(text, text) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO public.calls VALUES (current_user); RETURN true; END $$});
my ($changed, undef, $changed_err) = $node->psql('postgres', q{UPDATE other SET body = 'changed'});
isnt($changed, 0, 'no change is queued while somebody has made a function of the name');
like($changed_err, qr/there is more than one function public\._llama_sync_differ/, 'which the error says');
is($sql->('SELECT count(*) FROM calls'), 0, 'and that function is not called');
$as->('mallory', 'DROP FUNCTION public._llama_sync_differ(text, text)');
others_are_filled('when it is gone');

# ----------------------------------------------------------------

$sql->('CREATE ROLE dumper LOGIN');
$sql->('CREATE DATABASE dumped OWNER dumper');
$sql->('CREATE DATABASE restored');
$node->safe_psql('dumped', q{CREATE EXTENSION llama3; SET SESSION AUTHORIZATION dumper;
	CREATE TABLE t (id int PRIMARY KEY, body text, up text, down text);
	SELECT llama_sync('t', 'up', 'upper(body)'); SELECT llama_sync('t', 'down', 'lower(body)');
	SELECT llama_sync_pause('t', 'up');
	INSERT INTO t VALUES (1, 'Dumped');
	DROP TABLE t_down_queue});
my $dump = "$PostgreSQL::Test::Utils::tmp_check/dumper.dump";
$node->command_ok([ 'pg_dump', '-U', 'dumper', '-Fc', '-f', $dump, '-d', $node->connstr('dumped') ],
	'who owns the database can dump it');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
is($node->safe_psql('restored', q{SELECT column_name, state FROM llama_syncs}), 'up|paused',
	'the restored database has what can be filled');
is($node->safe_psql('restored', q{SELECT llama_sync_resume('t', 'up'); CALL llama_sync_run(); SELECT up FROM t}),
	"\nDUMPED",
	'and fills it');

$node->stop;
unlike(slurp_file($node->logfile), qr/TRAP|PANIC:|segmentation|terminated by signal/, 'nothing crashed');

done_testing();
