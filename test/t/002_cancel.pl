# A cancel, a timeout or a terminated backend ends a request at once and frees
# its slot, in the middle of a prompt and in the middle of an answer.

use strict;
use warnings;
use lib '.', 't';
use List::Util qw(max);
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

# The contract's bound.  The median of several tries has to keep it: a single
# one may be unlucky on a busy machine.
use constant LIMIT_SECONDS => 0.2;
use constant TRIES => 5;

make_model('slow.gguf', 'slow');
my $node = start_node('main', "llama3.models = 'slow.gguf'", 'llama3.context_limit = 32768',
	'llama3.kv_cache_size = 1GB');
$node->safe_psql('postgres', "SELECT llama_generate('warm up', max_tokens => 1)");
my $segments = shared_memory_files();

# A prompt of some thousand tokens takes seconds; an answer of as many too.
my %phase = (
	prefill => "SELECT llama_complete(repeat('a quick look at long prompts ', 1500), max_tokens => 1)",
	decode => "SELECT llama_complete('once', max_tokens => 8000, repeat_penalty => 0.1)",
);

sub in_phase
{
	my ($phase) = @_;
	return $node->safe_psql('postgres', $phase eq 'prefill'
		? "SELECT pid FROM llama_stat_requests WHERE state = 'running' AND generated_tokens = 0 AND prompt_tokens > 1000"
		: "SELECT pid FROM llama_stat_requests WHERE state = 'running' AND generated_tokens > 3");
}

# Median of the seconds between an action and the client's end, and until the
# slot was free.
sub medians
{
	my ($phase, $action, $state) = @_;
	my (@returned, @freed);
	for my $try (1 .. TRIES)
	{
		my $client = spawn_sql($node, $phase{$phase});
		my $pid = wait_until("$phase runs", sub { in_phase($phase) });
		my $start = time;
		$action->($pid);
		finish_sql($client);
		push @returned, time - $start;
		is(sqlstate_of($client->{err}), $state, "$phase: SQLSTATE $state") if $try == 1;
		wait_until('the slot is free', sub {
			$node->safe_psql('postgres', 'SELECT slots_in_use = 0 FROM llama_stat') eq 't' });
		push @freed, time - $start;
	}
	note("$phase: returned after @returned s, slot free (as seen by psql) after @freed s");
	return ((sort { $a <=> $b } @returned)[TRIES / 2], (sort { $a <=> $b } @freed)[TRIES / 2]);
}

# One connection that is open already, so that its start is not measured.
my $killer = $node->background_psql('postgres');
for my $phase (sort keys %phase)
{
	my ($returned, $freed) = medians($phase,
		sub { $killer->query("SELECT pg_cancel_backend($_[0])") }, '57014');
	cmp_ok($returned, '<', LIMIT_SECONDS, "$phase: a cancelled call returns in time");
	cmp_ok($freed, '<', LIMIT_SECONDS, "$phase: and its slot is free");

	($returned, $freed) = medians($phase,
		sub { $killer->query("SELECT pg_terminate_backend($_[0])") }, '57P01');
	cmp_ok($returned, '<', LIMIT_SECONDS, "$phase: a terminated backend is gone in time");
	cmp_ok($freed, '<', LIMIT_SECONDS, "$phase: and its slot is free");

	my $client = spawn_sql($node, "SET statement_timeout = '300ms'; $phase{$phase}");
	finish_sql($client);
	is(sqlstate_of($client->{err}), '57014', "$phase: statement_timeout ends the call");
	nothing_left_behind($node, $segments, "after $phase was stopped");
}
$killer->quit;

# A subtransaction that fails gives its request up too, and the session goes on.
my $result = $node->safe_psql('postgres', q{
	CREATE FUNCTION stop_early() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE first text;
	BEGIN
		BEGIN
			FOR first IN SELECT llama_generate_stream('hello', max_tokens => 5000) LOOP
				RAISE EXCEPTION 'enough';
			END LOOP;
		EXCEPTION WHEN raise_exception THEN
			RETURN 'stopped';
		END;
		RETURN 'never';
	END $$;
	SELECT stop_early();
});
is($result, 'stopped', 'an exception block ends a stream');
nothing_left_behind($node, $segments, 'after an exception block');

is($node->safe_psql('postgres',
		"SELECT count(*) FROM (SELECT llama_generate_stream('hello', max_tokens => 5000) LIMIT 1) s"), '1',
	'LIMIT ends a stream');
nothing_left_behind($node, $segments, 'after LIMIT');
$node->safe_psql('postgres',
	"BEGIN; DECLARE c CURSOR FOR SELECT llama_generate_stream('hello', max_tokens => 5000); "
	. "FETCH 1 FROM c; FETCH 1 FROM c; CLOSE c; COMMIT");
nothing_left_behind($node, $segments, 'after a closed cursor');
$node->stop;

done_testing();
