# The demonstration model: a server that is told of no other loads it and
# answers with it; it steps back for any other model, and can be left out.
#
# The server is a copy of the installation, so that its share directory is
# this test's.  What lies there is a stand-in of random weights.

use strict;
use warnings;
use lib '.', 't';
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $demo_setting = '$sharedir/llama3/llama3-demo.gguf';
my $note = 'demonstration model: knows descriptions of Debian packages and little else; '
  . 'load a Llama 3 model for real work';
my $dir = model_directory();
my $tiny = make_model('tiny.gguf');
my $other = make_model('other.gguf', qw(--preset tiny --type q8_0 --chat llama31 --seed 8));
my $slow = make_model('slow.gguf', 'slow');
my $demo_file = make_model('stand-in.gguf', qw(--preset tiny --type q8_0 --chat llama30 --vocab 4096
	--ctx 1024 --seed 11 --name), 'llama3 demonstration model');

# ----------------------------------------------------------------
# The installation
# ----------------------------------------------------------------

# PostgreSQL finds its directories relative to that of its program, so a copy
# of the programs under another root has another share directory.
my $root = "$PostgreSQL::Test::Utils::tmp_check/installation";
my %installed;
for my $what (qw(bindir sharedir pkglibdir))
{
	($installed{$what}) = run_command([ 'pg_config', "--$what" ]);
}
my $share = $root . $installed{sharedir};
system('mkdir', '-p', "$share/llama3", map { dirname("$root$installed{$_}") } qw(bindir pkglibdir)) == 0
  && system('cp', '-R', $installed{bindir}, "$root$installed{bindir}") == 0
  or BAIL_OUT('could not copy the installation');
symlink $installed{pkglibdir}, $root . $installed{pkglibdir};
for my $file (glob("$installed{sharedir}/*"))
{
	symlink $file, "$share/" . basename($file) unless basename($file) eq 'llama3';
}

sub ship
{
	system('cp', $demo_file, "$share/llama3/llama3-demo.gguf") == 0 or BAIL_OUT('cp failed');
}

sub new_node
{
	my ($name) = @_;
	return PostgreSQL::Test::Cluster->new($name, install_path => dirname("$root$installed{bindir}"));
}

# ----------------------------------------------------------------
# Asking
# ----------------------------------------------------------------

my $node = new_node('main');
my $question = "llama_generate('hello', max_tokens => 20";

sub ask
{
	my ($model) = @_;
	return $node->safe_psql('postgres', "SELECT $question" . ($model ? ", model => '$model')" : ')'));
}

sub models
{
	return $node->safe_psql('postgres', "SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM llama_models");
}

sub refused
{
	my ($sql, $state, $pattern, $what, @options) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose', @options ]);
	is(sqlstate_of($err), $state, "$what: $state");
	like($err, $pattern, "$what: the message") if $pattern;
}

sub configure
{
	my ($line) = @_;
	$node->append_conf('postgresql.conf', $line);
	$node->restart;
}

# Stop a process, told by its row of pg_stat_activity, while it loads the model.
# The server looks by itself, since that takes only moments.  Always continued.
my @stopped;
END { kill 'CONT', @stopped if @stopped; }
sub stop_loading
{
	my ($process, $name, $start) = @_;
	my $stopper = spawn_sql($node, qq{DO \$\$
		BEGIN
			FOR i IN 1 .. 100000 LOOP
				IF EXISTS (SELECT FROM llama_models WHERE state = 'loading' AND name = '$name') THEN
					EXECUTE format('COPY (SELECT WHERE false) TO PROGRAM %L', 'kill -STOP ' ||
						(SELECT pid FROM pg_stat_activity WHERE $process));
					RETURN;
				END IF;
				PERFORM pg_sleep(0.001);
			END LOOP;
		END \$\$});
	$start->();
	is(finish_sql($stopper), 0, 'a load is stopped') or diag($stopper->{err});
	@stopped = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $process");
	return $node->safe_psql('postgres', "SELECT state FROM llama_models WHERE name = '$name'") eq 'loading';
}

sub continue_loading
{
	kill 'CONT', @stopped;
	@stopped = ();
}

# A call that names no model, once it waits for one: not for the engine.
sub call_waits
{
	return wait_until('the call waits', sub {
		return $node->safe_psql('postgres', q{SELECT 1 FROM pg_stat_activity
			WHERE query LIKE 'SELECT llama_generate%' AND state = 'active' AND wait_event_type = 'Extension'
				AND clock_timestamp() - query_start > '300 ms' AND NOT EXISTS (SELECT FROM llama_stat_requests)}) });
}

sub waiting_call
{
	my $client = spawn_sql($node, "SELECT $question)");
	return ($client, call_waits());
}

# ----------------------------------------------------------------
# A server with nothing but the library
# ----------------------------------------------------------------

ship();
$node->init(allows_streaming => 1);
# The last is the server's own default, which the tests' clusters turn off.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'llama3'\nrestart_after_crash = on\n");
$node->start;
my $demo = $node->safe_psql('postgres', "CREATE EXTENSION llama3; SELECT $question)");
isnt($demo, '', 'a server that was only told to preload llama3 answers at once');
is($node->safe_psql('postgres', 'SHOW llama3.models'), $demo_setting, 'from its share directory, as a setting says');
is($node->safe_psql('postgres', 'SELECT name, state, path, note FROM llama_models'),
	"llama3-demo|ready|$share/llama3/llama3-demo.gguf|$note", 'the view says that it is the demonstration model');
like(slurp_file($node->logfile),
	qr/LOG:  model "llama3-demo" is the demonstration model\n.*DETAIL:  It knows .*Debian.*\n.*HINT:  Load a Llama 3 model/,
	'and so does the log');
is(ask('llama3-demo'), $demo, 'it has a name');

# ----------------------------------------------------------------
# It steps back
# ----------------------------------------------------------------

$node->safe_psql('postgres', "SELECT llama_load_model('$tiny')");
my $real = ask('tiny');
isnt($real, $demo, 'another model answers otherwise');
is(ask(), $real, 'and is the default as soon as it is loaded');
is($node->safe_psql('postgres', "SELECT note IS NULL FROM llama_models WHERE name = 'tiny'"), 't', 'without a note');
$node->safe_psql('postgres', "SELECT llama_load_model('$other')");
isnt(ask('other'), $real, 'a third model answers otherwise');
is(ask(), $real, 'of two others the first one is the default');
is($node->safe_psql('postgres', "SET llama3.default_model = 'llama3-demo'; SELECT $question)"), $demo,
	'who names the demonstration model gets it');
$node->safe_psql('postgres', "SELECT llama_unload_model('tiny'), llama_unload_model('other')");
is(ask(), $demo, 'without another it is the default again');

# --- while another is being loaded, by a session
my $client;
my $loading_session = "query LIKE 'SELECT llama_load_model%'";
my $load = sub { $client = spawn_sql($node, "SELECT llama_load_model('$slow')") };
ok(stop_loading($loading_session, 'slow', $load), 'while another model is being loaded');
is(ask('llama3-demo'), $demo, 'by its name it answers meanwhile');
my ($call, $waits) = waiting_call();
ok($waits, 'a call that names none waits');
refused("SET statement_timeout = '100ms'; SELECT $question)", '57014', undef, 'as long as it is allowed to');
continue_loading();
is(finish_sql($client), 0, 'the other model is there');
finish_sql($call);
is($call->{out}, ask('slow'), 'and answers the call');
$node->safe_psql('postgres', "SELECT llama_unload_model('slow')");

# --- or is being loaded, and then is not
ok(stop_loading($loading_session, 'slow', $load), 'while another model is being loaded once more');
($call, $waits) = waiting_call();
ok($waits, 'a call that names none waits again');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($stopped[0])");
continue_loading();
isnt(finish_sql($client), 0, 'the load is cancelled');
finish_sql($call);
is($call->{out}, $demo, 'and the demonstration model answers the call');

# ----------------------------------------------------------------
# What makes it one is in the file
# ----------------------------------------------------------------

$node->safe_psql('postgres', "SELECT llama_unload_model('llama3-demo')");
is(models(), '', 'it can be unloaded');
refused("SELECT $question)", '55000', qr/no model is loaded\n.*HINT:  .*llama_load_model.*llama3\.models/, 'then there is none');
$node->reload;
sleep 1;
is(models(), '', 'a reload does not bring it back');
my ($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('$demo_file', 'renamed')");
like($err, qr/NOTICE:  model "renamed" is the demonstration model\n.*DETAIL:  .*\n.*HINT:  /,
	'who loads it under another name, from another place, is told what it is');
system('cp', $tiny, "$share/llama3/mine.gguf");
is($node->safe_psql('postgres', q{SELECT llama_load_model('$sharedir/llama3/mine.gguf')}), 'mine',
	'another file of that directory is loaded');
is($node->safe_psql('postgres', 'SELECT name, note FROM llama_models'), "mine|\nrenamed|$note", 'as what it is');
is(ask(), $real, 'so it is the default, though loaded later');
is(ask('renamed'), $demo, 'and the demonstration model answers as ever');
unlink "$share/llama3/mine.gguf";

# ----------------------------------------------------------------
# Restarts, and the weights cache
# ----------------------------------------------------------------

$node->restart;
is(models(), 'llama3-demo ready', 'a restart brings it back');
$node->safe_psql('postgres', "SELECT llama_load_model('$tiny')");
my $victim = spawn_sql($node, 'SELECT pg_sleep(600)');
my $pid = wait_until('the session is there', sub {
	$node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") });
kill 'KILL', $pid;
isnt(finish_sql($victim), 0, 'a killed backend');
ok(wait_until('the server is back', sub { $node->psql('postgres', 'SELECT 1') == 0 }), 'the server restarts after a crash');
is(ask(), $demo, 'and answers with the demonstration model');

my $cache = $node->basedir . '/cache';
mkdir $cache;
configure("llama3.weights_cache = '$cache'");
is(ask(), $demo, 'it answers out of the weights cache');
$node->restart;
is(ask(), $demo, 'and when the file was there already');
is($node->safe_psql('postgres', 'SELECT name, backing, note FROM llama_models'), "llama3-demo|file|$note",
	'of which the view says what it is');
$node->safe_psql('postgres', "SELECT llama_load_model('$tiny')");
is(ask(), $real, 'there too it steps back');
configure("llama3.weights_cache = ''");

# ----------------------------------------------------------------
# The list names others
# ----------------------------------------------------------------

configure("llama3.models = '$tiny'");
is(models(), 'tiny ready', 'who lists his own does not get it');
is(ask(), $real, 'and is answered by his own');
configure("llama3.models = ''");
is(models(), '', 'an empty list loads none');
refused("SELECT $question)", '55000', qr/HINT:  .*llama_load_model.*llama3\.models/, 'without a list');

# --- beside one that is still being loaded by the server
# Three of them, so that the server can be caught before it is through.
$node->append_conf('postgresql.conf', "llama3.models = '$demo_setting, $slow, slow2=$slow, slow3=$slow'");
$node->restart;
my $loader = "backend_type = 'llama3 loader'";
ok(stop_loading($loader, 'slow', sub {}), 'while the server loads another of its list');
is(models(), 'llama3-demo ready, slow loading', 'the demonstration model is there already');
($call, $waits) = waiting_call();
ok($waits, 'a call that names none waits');
ok(stop_loading($loader, 'slow3', \&continue_loading), 'while the server loads the last of its list');
is(models(), 'llama3-demo ready, slow ready, slow2 ready, slow3 loading', 'the others are there already');
ok(call_waits(), 'and the call waits until the list is through');
continue_loading();
finish_sql($call);
is($call->{out}, ask('slow'), 'and is answered by the other');
isnt($call->{out}, $demo, 'not by the demonstration model');

# ----------------------------------------------------------------
# $sharedir, and who may read what is there
# ----------------------------------------------------------------

configure("llama3.models = '\$libdir/x.gguf, $tiny'");
is(ask(), $real, 'a wrong item of the list leaves the others');
like(slurp_file($node->logfile),
	qr/could not load model "\$libdir\/x\.gguf" of llama3\.models: unknown macro "\$libdir" in path .*\n.*HINT:  The only one is "\$sharedir"/,
	'and the log says what is known');
for my $function (qw(llama_load_model llama_model_plan))
{
	refused("SELECT $function('\$sharedirectory/x')", '22023',
		qr/unknown macro "\$sharedirectory" in path "\$sharedirectory\/x"\n.*HINT:  The only one is "\$sharedir"/, $function);
	refused("SELECT $function('$dir/\$libdir/x')", '58P01', qr/\$libdir\/x/, "$function: only at the start");
}
is($node->safe_psql('postgres', "SELECT name FROM llama_model_plan('$demo_setting')"), 'llama3-demo',
	'a plan of it');

$node->safe_psql('postgres', q{CREATE ROLE someone LOGIN;
	GRANT EXECUTE ON FUNCTION llama_load_model(text, text, text), llama_model_plan(text, text),
		llama_unload_model(text, boolean) TO someone});
sub someone_loads
{
	my ($path) = @_;
	return $node->psql('postgres', "SELECT llama_load_model('$path', 'mine')", extra_params => [ '-U', 'someone' ]) == 0
	  && $node->psql('postgres', "SELECT llama_unload_model('mine')", extra_params => [ '-U', 'someone' ]) == 0;
}
symlink $tiny, "$share/llama3/link.gguf";
mkdir "$share/llama3-other";
system('cp', $tiny, "$share/llama3-other/tiny.gguf");
ok(someone_loads($demo_setting), 'whoever may load models may load it');
ok(someone_loads("$share/llama3/llama3-demo.gguf"), 'by its whole path too');
for my $path ('$sharedir/postgres.bki', '$sharedir/llama3/../postgres.bki', '$sharedir/../../../../etc/passwd',
	'$sharedir/llama3-other/tiny.gguf', '$sharedir', '$sharedir/llama3/link.gguf', '$sharedir/nowhere', $tiny)
{
	refused("SELECT llama_load_model('$path', 'mine')", '42501',
		qr/DETAIL:  .*outside llama3\.model_directory and \$sharedir\/llama3\./, "not $path", '-U', 'someone');
}
refused("SELECT llama_load_model('\$sharedir/llama3/nowhere')", '58P01', undef, 'nothing there', '-U', 'someone');
refused("SELECT llama_load_model('tiny.gguf')", '22023', qr/needs llama3\.model_directory/,
	'a relative path', '-U', 'someone');
$node->append_conf('postgresql.conf', "llama3.model_directory = '$dir'");
$node->reload;
ok(wait_until('the directory is known', sub { someone_loads('tiny.gguf') }), 'with a model directory, from there');
ok(someone_loads($demo_setting), 'and still from the share directory');
symlink "$share/llama3/llama3-demo.gguf", "$dir/linked-demo.gguf";
ok(someone_loads('linked-demo.gguf'), 'also by a link from the one to the other');
ok($node->psql('postgres', q{SELECT llama_load_model('$sharedir/llama3/link.gguf', 'mine')}) == 0,
	'a superuser may follow any link');
unlink "$share/llama3/link.gguf";

# ----------------------------------------------------------------
# An installation without the file
# ----------------------------------------------------------------

unlink "$share/llama3/llama3-demo.gguf";
configure("llama3.models = '$demo_setting'");
refused("SELECT $question)", '55000',
	qr/no model is loaded\n.*DETAIL:  Model "llama3-demo" could not be loaded: .*llama3-demo\.gguf.*\n.*HINT:  .*llama_load_model/,
	'a server without the file starts, and says so');
is($node->safe_psql('postgres', 'SELECT name, state, note IS NULL FROM llama_models'), 'llama3-demo|failed|t', 'in the view');
like(slurp_file($node->logfile),
	qr/could not load model "llama3-demo" of llama3\.models: .*No such file.*\n.*HINT:  The installation of llama3 is incomplete/,
	'and in the log, with what to do');
$node->safe_psql('postgres', "SELECT llama_load_model('$tiny')");
is(ask(), $real, 'another model can be used');
ship();
$node->reload;
ok(wait_until('it is loaded', sub { models() eq 'llama3-demo ready, tiny ready' }),
	'with the file back, a reload is enough');

# ----------------------------------------------------------------
# The file that is installed
# ----------------------------------------------------------------

$node->safe_psql('postgres',
	"SELECT llama_load_model('$installed{sharedir}/llama3/llama3-demo.gguf', 'installed')");
is($node->safe_psql('postgres', "SELECT note FROM llama_models WHERE name = 'installed'"), $note,
	'the installed file is known as what it is');

# ----------------------------------------------------------------
# A standby
# ----------------------------------------------------------------

$node->restart;
$node->backup('base');
my $standby = new_node('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', "SELECT pg_is_in_recovery(), $question)"), "t|$demo",
	'a standby answers with it as its primary does');
$standby->stop;
$node->stop;

done_testing();
