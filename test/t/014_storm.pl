# A storm of requests, timeouts, cancels, terminated backends and workers,
# loading and unloading: at the end nothing is left, the counters add up, and
# the engine answers as before.

use strict;
use warnings;
use lib '.', 't';
use Time::HiRes qw(sleep time);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

use constant CLIENTS => 12;
use constant SECONDS => $ENV{LLAMA3_STORM_SECONDS} // 15;

my $seed = $ENV{LLAMA3_STORM_SEED} // time;
srand($seed);
note("LLAMA3_STORM_SEED=$seed repeats this storm's statements");

make_model('tiny.gguf');
make_model('other.gguf', qw(--preset tiny --layers 3 --embd 256 --heads 8 --kv-heads 2 --head-dim 32
	--ff 512 --type q4_k_m --chat llama30 --seed 21));
my $node = start_node('main', "llama3.models = 'tiny.gguf, other.gguf'", "llama3.default_model = 'tiny'",
	'llama3.workers = 2', 'llama3.queue_size = 10', 'llama3.kv_cache_size = 24MB',
	'max_worker_processes = 16', 'log_min_messages = fatal');
my $segments = shared_memory_files();
my @questions = (
	"SELECT llama_generate('what', max_tokens => 30)",
	"SELECT llama_classify_prob('so many words', ARRAY['one', 'two three', 'two four'])",
	"SELECT llama_embed('words', model => 'other')",
	"SELECT llama_complete('x', max_tokens => 30, temperature => 1, seed => 5, model => 'other')");
my @before = map { $node->safe_psql('postgres', $_) } @questions;

sub random_statement
{
	my @statements = (@questions,
		"SELECT llama_generate(repeat('long prompt ', " . int(rand(300)) . "), max_tokens => " . (1 + int(rand(200))) . ")",
		"SELECT count(*) FROM (SELECT llama_generate_stream('a stream', max_tokens => 200) LIMIT " . int(rand(5)) . ") s",
		"SELECT llama_similarity('a', 'b', model => 'other'), llama_filter('text', 'is it so', model => 'other')",
		"SELECT sum(logprob) FROM llama_logprobs('a', repeat('b c ', " . (1 + int(rand(100))) . "))",
		"BEGIN; DECLARE c CURSOR FOR SELECT llama_generate_stream('c', max_tokens => 100); FETCH 1 FROM c; SELECT 1 / 0; ROLLBACK",
		"DO \$\$ BEGIN PERFORM llama_generate('in a block', max_tokens => 20); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END \$\$",
		"SELECT llama_unload_model('other')", "SELECT llama_load_model('other.gguf')");
	return 'SET llama3.enable_result_cache = ' . (rand() < 0.3 ? 'on' : 'off') . ";\n"
	  . 'SET statement_timeout = ' . (rand() < 0.5 ? int(1 + rand(60)) : 20000) . ";\n"
	  . $statements[ int(rand(@statements)) ] . ";\n";
}

# --- the clients: endless scripts, errors and all
my @clients;
my $n_scripts = 0;
sub start_client
{
	my $file = "$PostgreSQL::Test::Utils::tmp_check/storm" . $n_scripts++ . '.sql';
	my $client = {};
	append_to_file($file, join('', map { random_statement() } 1 .. 2000));
	$client->{harness} = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAtq', '-f', $file, '-d', $node->connstr('postgres') ],
		'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
	return $client;
}
@clients = map { start_client() } 1 .. CLIENTS;

# --- the killer
my $end = time + SECONDS;
my %done = (cancelled => 0, terminated => 0, workers => 0);
while (time < $end)
{
	sleep 0.05;
	my $what = rand();
	if ($what < 0.6)
	{
		$node->psql('postgres', "SELECT pg_cancel_backend(pid) FROM llama_stat_requests ORDER BY random() LIMIT 1");
		$done{cancelled}++;
	}
	elsif ($what < 0.95)
	{
		$node->psql('postgres', "SELECT pg_terminate_backend(pid) FROM llama_stat_requests ORDER BY random() LIMIT 1");
		$done{terminated}++;
	}
	else
	{
		$node->psql('postgres', "SELECT pg_terminate_backend(pid) FROM llama_stat_workers WHERE pid IS NOT NULL ORDER BY random() LIMIT 1");
		$done{workers}++;
	}
	for my $client (@clients)
	{
		next if $client->{harness}->pumpable;
		eval { $client->{harness}->finish };
		$client = start_client();
	}
}
note("cancels $done{cancelled}, terminated backends $done{terminated}, terminated workers $done{workers}");
note('requests done|failed|cancelled: ' . $node->safe_psql('postgres',
	'SELECT requests_done, requests_failed, requests_cancelled FROM llama_stat'));
cmp_ok($node->safe_psql('postgres', 'SELECT requests_done FROM llama_stat'), '>', 50, 'requests were answered meanwhile');

# --- calm: every client ends when its backend is terminated
for my $client (@clients)
{
	$client->{harness}->signal('TERM');
	eval { $client->{harness}->finish };
}
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
worker_pids($node);
$node->psql('postgres', "SELECT llama_load_model('other.gguf')");
is($node->safe_psql('postgres', "SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM llama_models"),
	'other ready, tiny ready', 'both models are there');
for my $i (0 .. $#questions)
{
	is($node->safe_psql('postgres', $questions[$i]), $before[$i], 'the same answer as before: ' . substr($questions[$i], 7, 20));
}
nothing_left_behind($node, $segments, 'after the storm');
is($node->safe_psql('postgres', 'SELECT payload_bytes FROM llama_stat'), '0', 'no payload is left');
is($node->safe_psql('postgres', 'SELECT sum(running), sum(kv_used_bytes) FROM llama_stat_workers'), '0|0',
	'no worker holds anything for a request');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal|TRAP|was terminated/, 'no process crashed');
$node->stop;

done_testing();
