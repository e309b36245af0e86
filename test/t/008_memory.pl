# What a connection and a worker cost.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

# Width and vocabulary of a real small model, few layers: the worker's buffers
# are of the size that the plan has to predict.
make_model('wide.gguf', qw(--preset tiny --layers 2 --embd 2048 --heads 32 --kv-heads 8
	--head-dim 64 --ff 8192 --vocab 32768 --type q8_0 --chat llama31 --seed 5));
make_model('tiny.gguf');

# Private_Dirty of the private mappings.  A page of shared memory that only one
# process has mapped at the moment counts as private to the kernel, but is the
# server's (the weights, when one worker runs): mappings with "s" are left out.
sub private_dirty_kb
{
	my ($pid) = @_;
	my ($sum, $shared) = (0, 0);
	open(my $file, '<', "/proc/$pid/smaps") or die "smaps of $pid: $!";
	while (<$file>)
	{
		$shared = $1 eq 's' if /^[0-9a-f]+-[0-9a-f]+ ...([ps]) /;
		$sum += $1 if /^Private_Dirty:\s+(\d+) kB/ && !$shared;
	}
	return $sum;
}

my $node = start_node('main', "llama3.models = 'tiny.gguf'");

# --- a backend after a thousand calls against one that made none
my $used = $node->background_psql('postgres');
my $fresh = $node->background_psql('postgres');
my $work = q{SELECT count(llama_generate('row ' || i, max_tokens => 2)) + count(llama_embed('row ' || i))
	+ count(llama_classify('row ' || i, ARRAY['a', 'b'])) + count(llama_count_tokens('row ' || i))
	FROM generate_series(1, 250) i};
$fresh->query('SELECT count(i) FROM generate_series(1, 250) i');
is($used->query($work), '1000', 'a thousand calls');
my $used_kb = private_dirty_kb($used->query('SELECT pg_backend_pid()'));
my $fresh_kb = private_dirty_kb($fresh->query('SELECT pg_backend_pid()'));
note("private dirty memory: $used_kb kB after 1,000 calls, $fresh_kb kB without");
cmp_ok($used_kb - $fresh_kb, '<', 1024, 'a backend that made 1,000 calls holds less than 1 MB more');
$used->quit;
$fresh->quit;

# --- the worker's own memory against the plan
$node->append_conf('postgresql.conf', "llama3.models = ''");
$node->restart;
my ($worker) = worker_pids($node);
my $empty_kb = private_dirty_kb($worker);
my $plan = $node->safe_psql('postgres', "SELECT workspace_bytes FROM llama_model_plan('wide.gguf')");
my $kv = $node->safe_psql('postgres', "SELECT kv_bytes_per_token FROM llama_model_plan('wide.gguf')");
$node->safe_psql('postgres', "SELECT llama_load_model('wide.gguf')");
# A prompt longer than a step fills every buffer; classification has many rows of logits.
$node->safe_psql('postgres', "SELECT length(llama_complete(repeat('some words and more ', 400), max_tokens => 4))");
$node->safe_psql('postgres', "SELECT llama_classify('text', (SELECT array_agg('label number ' || i) FROM generate_series(1, 80) i))");
my $full_kb = private_dirty_kb($worker);
my $kv_held = $node->safe_psql('postgres', 'SELECT kv_used_bytes + kv_cached_bytes FROM llama_stat_workers');
my $other = ($full_kb - $empty_kb) * 1024 - $kv_held;
note(sprintf('worker: %d kB empty, %d kB with the model, %d kB of KV cache; other memory %.1f MB, plan %.1f MB (%d bytes of KV a token)',
	$empty_kb, $full_kb, $kv_held / 1024, $other / 1048576, $plan / 1048576, $kv));
cmp_ok($other, '<', $plan * 1.1, 'the worker holds at most 10 % more than planned');
cmp_ok($other, '>', $plan * 0.9, 'and at least 90 % of it');
$node->stop;

done_testing();
