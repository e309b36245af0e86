# What the TAP tests share: models, private clusters, background clients and
# the check that nothing was left behind.

package Llama3Test;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run ();
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(make_model start_node spawn_sql finish_sql running_requests
  wait_until worker_pids shared_memory_files nothing_left_behind sqlstate_of
  model_directory);

my %made;

# Directory of the models that this test made.
sub model_directory
{
	my $dir = "$PostgreSQL::Test::Utils::tmp_check/models";
	mkdir $dir unless -d $dir;
	return $dir;
}

# make_model(NAME, OPTIONS...): a random-weight model file; returns its path.
#	tiny	answers in milliseconds
#	slow	large enough that a request of some hundred tokens takes seconds
sub make_model
{
	my ($name, @options) = @_;
	my $path = model_directory() . "/$name";
	return $path if $made{$path}++;
	@options = (qw(--preset tiny --type q8_0 --chat llama31 --seed 7)) unless @options;
	@options = (qw(--preset tiny --layers 12 --embd 1024 --heads 16 --kv-heads 8
		--head-dim 64 --ff 4096 --type q8_0 --chat llama31 --seed 9 --ctx 32768))
	  if $options[0] eq 'slow';
	system("$ENV{LLAMA3_BIN}/mkmodel", @options, '--out', $path) == 0
	  or BAIL_OUT("mkmodel failed for $name");
	return $path;
}

# start_node(NAME, SETTINGS...): a cluster with llama3 preloaded, the extension
# created in "postgres", and the models of the settings loaded: none by default,
# not even the demonstration model.  The result cache is off unless a test turns
# it on: to ask again is to compute again, so that answers can be compared.
sub start_node
{
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', join("\n",
		"shared_preload_libraries = 'llama3'",
		"llama3.model_directory = '" . model_directory() . "'",
		"llama3.models = ''",
		"llama3.kv_cache_size = 256MB",
		"llama3.enable_result_cache = off",
		"max_connections = 130",
		"restart_after_crash = on",
		@settings, ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION llama3');
	return $node;
}

# A client that has not ended after so many seconds hangs.
my $hangs_after = 3 * $PostgreSQL::Test::Utils::timeout_default;

# Start psql in the background with one statement; finish_sql waits for it.
sub spawn_sql
{
	my ($node, $sql, %options) = @_;
	my %client = (out => '', err => '', started => time);
	local $ENV{PGOPTIONS} = $options{pgoptions} // '';
	$client{harness} = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1',
		  '-v', 'VERBOSITY=verbose', '-d', $node->connstr($options{dbname} // 'postgres'),
		  '-c', $sql ],
		'<', '/dev/null', '>', \$client{out}, '2>', \$client{err}, IPC::Run::timeout($hangs_after));
	return \%client;
}

# Wait for a client; returns its exit status.  $client->{seconds} is its life.
# One that hangs is ended, and the test fails.
sub finish_sql
{
	my ($client) = @_;
	if (!eval { $client->{harness}->finish; 1 } && $@ =~ /timeout/)
	{
		$client->{harness}->kill_kill;
		fail("a client ended within $hangs_after seconds");
	}
	$client->{seconds} = time - $client->{started};
	chomp $client->{out};
	return $client->{harness}->full_result(0) >> 8;
}

# The SQLSTATE in the error of a client with verbose messages, or ''.
sub sqlstate_of
{
	my ($text) = @_;
	return $text =~ /(?:ERROR|FATAL):\s+(\w{5}):/ ? $1 : '';
}

# Poll a query (given as code returning a true value) for up to 60 seconds.
sub wait_until
{
	my ($what, $code) = @_;
	my $end = time + 60;
	while (time < $end)
	{
		my $value = eval { $code->(); };
		return $value if $value;
		sleep 0.02;
	}
	diag("timed out waiting until $what");
	return 0;
}

sub running_requests
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM llama_stat_requests WHERE state = 'running'");
}

# Process ids of the engine workers, once all are there.
sub worker_pids
{
	my ($node) = @_;
	my @pids;
	wait_until('all engine workers run', sub {
		@pids = split /\n/, $node->safe_psql('postgres',
			'SELECT pid FROM llama_stat_workers WHERE pid IS NOT NULL ORDER BY worker');
		return @pids == $node->safe_psql('postgres', 'SHOW llama3.workers');
	}) or BAIL_OUT('engine workers are missing');
	return @pids;
}

# Names of this user's PostgreSQL segments in /dev/shm.
sub shared_memory_files
{
	my @files;
	for my $file (glob('/dev/shm/PostgreSQL.*'))
	{
		push @files, $file if -o $file;
	}
	return @files;
}

# No slot, no payload and no shared memory is left over.  $segments is the
# number of files in /dev/shm when the server was idle before.
sub nothing_left_behind
{
	my ($node, $segments, $where) = @_;
	my $left;
	my $idle = wait_until("nothing is left $where", sub {
		$left = $node->safe_psql('postgres',
			'SELECT slots_in_use, queued, running, backends_waiting FROM llama_stat');
		return $left eq '0|0|0|0';
	});
	ok($idle, "no slot is left $where") or diag("slots_in_use|queued|running|waiting = $left");
	my @files;
	my $same = wait_until("no shared memory is left $where", sub {
		@files = shared_memory_files();
		return @files <= $segments;
	});
	ok($same, "no shared memory is left $where")
	  or diag(scalar(@files) . " segments, $segments before: @files");
}

1;
