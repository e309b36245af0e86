# Many connections, a queue that is full, one greedy backend: everybody gets an
# answer, the same one as alone, and waiting can be cancelled.

use strict;
use warnings;
use lib '.', 't';
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
make_model('slow.gguf', 'slow');
my $node = start_node('main', "llama3.models = 'tiny.gguf, slow.gguf'",
	"llama3.default_model = 'tiny'", 'llama3.queue_size = 8');
my $segments = shared_memory_files();

# --- 100 connections at once through 8 slots
my %alone;
for my $i (1 .. 10)
{
	$alone{$i} = $node->safe_psql('postgres', "SELECT llama_generate('question $i', max_tokens => 12)");
}
my @clients = map {
	my $i = 1 + $_ % 10;
	spawn_sql($node, "SELECT llama_generate('question $i', max_tokens => 12)")
} 1 .. 100;
my ($failed, $wrong) = (0, 0);
for my $n (1 .. 100)
{
	my $client = $clients[ $n - 1 ];
	$failed++ if finish_sql($client) != 0;
	$wrong++ if $client->{out} ne $alone{ 1 + $n % 10 };
}
is($failed, 0, '100 connections at once are all answered');
is($wrong, 0, 'each as alone');
nothing_left_behind($node, $segments, 'after 100 connections');

# --- calls of two requests, through places that are not enough for all
my $calibrated = "SELECT array_agg(llama_classify_prob('row ' || i, '{a,b}', calibrate => true)) FROM generate_series(1, 5) i";
my $expected = $node->safe_psql('postgres', $calibrated);
@clients = map { spawn_sql($node, $calibrated) } 1 .. 16;
is(scalar(grep { finish_sql($_) == 0 && $_->{out} eq $expected } @clients), 16,
	'16 connections with calls of two requests each');
nothing_left_behind($node, $segments, 'after calls of two requests');

# --- a full queue: callers wait, can be cancelled, and get their turn
my $long = "SELECT llama_complete('fill', max_tokens => 3000, repeat_penalty => 0.1, model => 'slow')";
my @filling = map { spawn_sql($node, $long) } 1 .. 8;
ok(wait_until('the queue is full', sub {
	$node->safe_psql('postgres', 'SELECT slots_in_use = slots FROM llama_stat') eq 't' }),
	'eight requests fill the queue');
my $waiting = spawn_sql($node, "SELECT llama_generate('question 1', max_tokens => 12)");
my $cancelled = spawn_sql($node, "SET statement_timeout = '500ms'; SELECT llama_generate('question 1', max_tokens => 12)");
ok(wait_until('a caller waits', sub {
	$node->safe_psql('postgres', 'SELECT backends_waiting > 0 FROM llama_stat') eq 't' }),
	'another caller waits');
finish_sql($cancelled);
is(sqlstate_of($cancelled->{err}), '57014', 'a caller that waits for a place can be cancelled');
is($node->safe_psql('postgres', 'SELECT slots_in_use = slots FROM llama_stat'), 't', 'while the queue is still full');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM llama_stat_requests WHERE model = 'slow'");
finish_sql($_) for @filling;
is(finish_sql($waiting), 0, 'the waiting caller gets its turn');
is($waiting->{out}, $alone{1}, 'and its answer');
nothing_left_behind($node, $segments, 'after a full queue');

# --- a busy backend does not keep another waiting: while one runs a thousand
# rows, a single prompt is answered before they are done.
my $greedy = spawn_sql($node, "SELECT count(llama_generate('row ' || i, max_tokens => 8)) FROM generate_series(1, 1000) i");
wait_until('the rows run', sub { running_requests($node) > 0 });
is($node->safe_psql('postgres', "SELECT llama_generate('question 1', max_tokens => 12)"), $alone{1},
	'a single prompt is answered');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 1000)%' AND state = 'active' AND pid <> pg_backend_pid()"),
	'1', 'while the thousand rows still run');
finish_sql($greedy);
is($greedy->{out}, '1000', 'which are answered too');

# --- answers that nobody fetches hold no places
my @idle = map {
	spawn_sql($node, "BEGIN; DECLARE c CURSOR FOR SELECT llama_generate('row ' || i, max_tokens => 8) FROM generate_series(1, 1000) i; FETCH 30 FROM c; SELECT pg_sleep(60)")
} 1 .. 3;
my $asleep = "FROM pg_stat_activity WHERE query LIKE '%FETCH 30%' AND wait_event = 'PgSleep'";
wait_until('three cursors rest', sub { $node->safe_psql('postgres', "SELECT count(*) $asleep") eq '3' });
wait_until('their answers are there', sub { $node->safe_psql('postgres', 'SELECT queued + running FROM llama_stat') eq '0' });
is($node->safe_psql('postgres', 'SELECT slots_in_use, payload_bytes > 0 FROM llama_stat'), '0|t',
	'cursors that rest hold answers and no places');
is($node->safe_psql('postgres', "SET statement_timeout = '30s'; SELECT llama_generate('question 1', max_tokens => 12)"),
	$alone{1}, 'others are answered');
is($node->safe_psql('postgres', "SELECT count(*) $asleep"), '3', 'while they rest');
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) $asleep");
finish_sql($_) for @idle;
nothing_left_behind($node, $segments, 'after cursors that rested');
$node->stop;

done_testing();
