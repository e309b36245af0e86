# Room for a model: what llama_model_plan says is what a load does.  Runs in
# namespaces of its own, where /dev/shm is small.

use strict;
use warnings;
use Test::More;

# Before the modules of the server's tests, which redirect the output.
BEGIN
{
	# As root of a first namespace mount; in a second be oneself again, since
	# the server refuses to run as root.
	my $mount = 'mount -t tmpfs -o size=32m tmpfs /dev/shm && exec unshare -U '
	  . '--map-user=$0 --map-group=$0 "$@"';
	my @enter = ('unshare', '-Urm', 'sh', '-c', $mount, $>);

	if (!$ENV{LLAMA3_SMALL_SHM})
	{
		plan skip_all => 'user namespaces are not allowed here' if system(@enter, 'true') != 0;
		$ENV{LLAMA3_SMALL_SHM} = 1;
		exec @enter, $^X, (map { "-I$_" } @INC), $0;
	}
}

use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Llama3Test;

make_model('slow.gguf', 'slow');
make_model('tiny.gguf');
my $node = start_node('main');

sub plan_of
{
	my ($file) = @_;
	return split /\|/, $node->safe_psql('postgres', "SELECT fits, note FROM llama_model_plan('$file')");
}

sub refused
{
	my ($file, $sqlstate, $missing, $advice, $where) = @_;
	my ($fits, $note) = plan_of($file);
	my ($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('$file')",
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	is($fits, 'f', "$where: does not fit");
	like($note, $missing, "$where: the note says what is missing");
	like($note, $advice, "$where: and what to do");
	is(sqlstate_of($err), $sqlstate, "$where: and is not loaded");
	my ($message) = $err =~ /ERROR:  \w+: (.*)/;
	is(substr($note, 0, length $message), $message, "$where: in the same words");
}

sub loaded
{
	my ($file, $backing, $where) = @_;
	my ($fits, $note) = plan_of($file);
	is($fits, 't', "$where: fits") or diag($note);
	$node->safe_psql('postgres', "SELECT llama_load_model('$file')");
	is($node->safe_psql('postgres', 'SELECT backing FROM llama_models'), $backing, "$where: and is loaded");
	($fits, $note) = plan_of($file);
	is($fits, 't', "$where: would fit again") if $backing eq 'file';
	$node->safe_psql('postgres', 'SELECT llama_unload_model(name) FROM llama_models');
}

sub set_cache
{
	my ($dir) = @_;
	mkdir $dir;
	$node->safe_psql('postgres', "ALTER SYSTEM SET llama3.weights_cache = '$dir'");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	wait_until('the setting arrives', sub { $node->safe_psql('postgres', 'SHOW llama3.weights_cache') eq $dir });
}

my $shm = qr{^not enough shared memory to load model "slow": It needs \d+ MB, and \d+ MB are free in /dev/shm};
refused('slow.gguf', '53200', $shm, qr/--shm-size=1g.*llama3\.weights_cache/, 'a small /dev/shm');
loaded('tiny.gguf', 'shared memory', 'a model that is small too');

set_cache('/dev/shm/cache');
refused('slow.gguf', '53100', qr{^not enough disk space.*free in /dev/shm/cache}, qr/another directory/,
	'a full weights cache');
set_cache("$PostgreSQL::Test::Utils::tmp_check/room");
loaded('slow.gguf', 'file', 'a roomy weights cache');
$node->stop;

done_testing();
