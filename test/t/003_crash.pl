# Crashes: a killed backend, a killed and a terminated engine worker, under
# load.  The server comes back, loads its model by itself and answers as before.

use strict;
use warnings;
use lib '.', 't';
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('slow.gguf', 'slow');
my $nothing = shared_memory_files();
my $node = start_node('main', "llama3.models = 'slow.gguf'", 'llama3.workers = 2');
my $question = "SELECT llama_complete('the answer is', max_tokens => 24)";
my $answer = $node->safe_psql('postgres', $question);
my $segments = shared_memory_files();

sub load
{
	my ($n) = @_;
	my @clients = map {
		spawn_sql($node, "SELECT llama_complete('client $_', max_tokens => 400, temperature => 1, seed => $_)")
	} 1 .. $n;
	wait_until('requests run', sub { running_requests($node) > 0 });
	return @clients;
}

# --- an engine worker that is terminated gives its requests to another
my @clients = load(6);
my @before = worker_pids($node);
for my $pid (@before)
{
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
}
my @answers;
for my $client (@clients)
{
	is(finish_sql($client), 0, 'a request survives its terminated worker') or diag($client->{err});
	push @answers, $client->{out};
}
my @again = load(6);
for my $i (0 .. $#again)
{
	finish_sql($again[$i]);
	is($again[$i]{out}, $answers[$i], 'with the answer of an undisturbed run');
}
my @after = worker_pids($node);
is(scalar(@after), 2, 'both workers are back');
isnt("@after", "@before", 'as new processes');
nothing_left_behind($node, $segments, 'after terminated workers');

# --- kill -9 of a backend, then of an engine worker
for my $victim ('backend', 'engine worker')
{
	@clients = load(4);
	my $pid = $victim eq 'backend'
	  ? $node->safe_psql('postgres', "SELECT pid FROM llama_stat_requests WHERE state = 'running' LIMIT 1")
	  : (worker_pids($node))[0];
	kill 'KILL', $pid;
	for my $client (@clients)
	{
		isnt(finish_sql($client), 0, "$victim killed: the clients are told");
	}
	ok(wait_until('the server is back', sub { $node->psql('postgres', 'SELECT 1') == 0 }),
		"$victim killed: the server comes back");
	is($node->safe_psql('postgres', $question), $answer,
		"$victim killed: the model is loaded again and answers as before");
	nothing_left_behind($node, $segments, "after a killed $victim");
}

# --- stop in all ways while requests run: nothing hangs, nothing stays
for my $mode ('fast', 'immediate')
{
	@clients = load(4);
	$node->stop($mode);
	finish_sql($_) for @clients;
	cmp_ok(scalar(shared_memory_files()), '<=', $nothing, "$mode shutdown under load leaves no shared memory");
	$node->start;
	is($node->safe_psql('postgres', $question), $answer, "and the server answers after it");
}
$node->stop;

done_testing();
