# The same call gives the same answer bit for bit: alone, among 32 others, with
# 1, 2 and 4 threads, 1 and 2 workers, a cold and a warm cache, the prompt in
# one chunk or many.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('q8.gguf', qw(--preset tiny --type q8_0 --chat llama31 --seed 7));
make_model('mix.gguf', qw(--preset tiny --layers 3 --embd 256 --heads 8 --kv-heads 2
	--head-dim 64 --ff 512 --type q4_k_m --chat llama31 --seed 8));
make_model('bf16.gguf', qw(--preset tiny --type bf16 --chat llama30 --seed 9));
my $node = start_node('main', "llama3.models = 'q8.gguf, mix.gguf, bf16.gguf'", 'max_worker_processes = 16');

my $prefix = 'A long shared beginning that fills several blocks of the cache. ' x 6;
my @calls = map {
	my $model = $_;
	(
		"SELECT llama_generate('$prefix What now?', max_tokens => 24, model => '$model')",
		"SELECT llama_generate('hello', max_tokens => 24, temperature => 0.9, top_p => 0.9, seed => 42, model => '$model')",
		"SELECT llama_complete('$prefix', max_tokens => 24, model => '$model')",
		"SELECT llama_classify_prob('$prefix', ARRAY['one', 'two and more', 'three'], model => '$model')",
		"SELECT llama_filter_prob('$prefix', 'it is long', model => '$model')",
		"SELECT llama_embed('$prefix', model => '$model')",
		"SELECT array_agg(logprob) FROM llama_logprobs('$prefix', 'and a completion', model => '$model')",
	)
} qw(q8 mix bf16);

# All answers of one configuration; extra_float_digits shows every bit.
sub answers
{
	return map { $node->safe_psql('postgres', "SET extra_float_digits = 3; $_") } @calls;
}

sub configure
{
	my (%settings) = @_;
	$node->append_conf('postgresql.conf', join("\n", map { "$_ = $settings{$_}" } keys %settings) . "\n");
	$node->restart;
}

configure('llama3.threads' => 1, 'llama3.prefix_cache' => 'off');
my @expected = answers();
my %distinct = map { $_ => 1 } @expected;
is(scalar(keys %distinct), scalar(@expected), 'the answers differ from each other');

sub same_as_expected
{
	my ($what, @got) = @_;
	my $same = grep { $got[$_] eq $expected[$_] } 0 .. $#expected;
	is($same, scalar(@expected), "same answers: $what");
}

same_as_expected('a second time', answers());
for my $threads (2, 4)
{
	configure('llama3.threads' => $threads);
	same_as_expected("$threads threads", answers());
}
configure('llama3.threads' => 2, 'llama3.prefix_cache' => 'on');
same_as_expected('cold cache', answers());
same_as_expected('warm cache', answers());
cmp_ok($node->safe_psql('postgres', 'SELECT cached_tokens FROM llama_stat'), '>', 0,
	'the cache was used');

for my $tokens (16, 48, 1024)
{
	configure('llama3.batch_tokens' => $tokens, 'llama3.prefix_cache' => 'off');
	same_as_expected("prompts in chunks of $tokens tokens", answers());
}

for my $workers (1, 2)
{
	configure('llama3.workers' => $workers, 'llama3.prefix_cache' => 'on', 'llama3.batch_tokens' => 128);
	my @others = map {
		spawn_sql($node, "SELECT count(llama_generate('noise ' || i, max_tokens => 20, temperature => 1, seed => $_)) FROM generate_series(1, 100000) i")
	} 1 .. 32;
	ok(wait_until('the others run', sub { running_requests($node) > 8 }), '32 others run');
	same_as_expected("among 32 others, $workers workers", answers());
	cmp_ok(running_requests($node), '>', 8, 'the others ran all the time');
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%noise%' AND pid <> pg_backend_pid()");
	finish_sql($_) for @others;
}
$node->stop;

done_testing();
