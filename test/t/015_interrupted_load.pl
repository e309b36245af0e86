# A load that is cancelled or whose backend is terminated leaves no entry, no
# shared memory and no file, and the next load works.

use strict;
use warnings;
use lib '.', 't';
use Time::HiRes qw(sleep);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

# Large enough that loading takes a while: about 500 MB.
make_model('large.gguf', qw(--preset tiny --layers 24 --embd 1280 --heads 20 --kv-heads 4 --head-dim 64
	--ff 5120 --type q8_0 --chat llama31 --seed 4));
my $node = start_node('main');
my $cache = $node->basedir . '/cache';
mkdir $cache;
my $segments = shared_memory_files();

sub interrupt
{
	my ($where, $how, $state) = @_;
	my $interrupted = 0;
	for my $ms (5, 15, 30, 60, 100)
	{
		my $client;
		if ($how eq 'cancel')
		{
			$client = spawn_sql($node, "SET statement_timeout = ${ms}; SELECT llama_load_model('large.gguf')");
		}
		else
		{
			$client = spawn_sql($node, "SELECT llama_load_model('large.gguf')");
			wait_until('the load runs', sub {
				$node->safe_psql('postgres', "SELECT state FROM llama_models") ne '' });
			$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%load_model%' AND pid <> pg_backend_pid()");
		}
		if (finish_sql($client) != 0)
		{
			$interrupted += sqlstate_of($client->{err}) eq $state;
			is(sqlstate_of($client->{err}), $state, "$where, $how after $ms ms: SQLSTATE $state");
		}
		else
		{
			$node->safe_psql('postgres', "SELECT llama_unload_model('large')");
		}
	}
	cmp_ok($interrupted, '>', 0, "$where: a load was interrupted by $how");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM llama_models'), '0', "$where: no model is left");
	nothing_left_behind($node, $segments, "$where, after $how");
}

for my $how (['cancel', '57014'], ['terminate', '57P01'])
{
	interrupt('shared memory', @$how);
}
$node->append_conf('postgresql.conf', "llama3.weights_cache = '$cache'");
$node->reload;
ok(wait_until('the cache directory is set', sub {
	$node->safe_psql('postgres', 'SHOW llama3.weights_cache') eq $cache }), 'with a weights cache');
for my $how (['cancel', '57014'], ['terminate', '57P01'])
{
	unlink glob("$cache/*");
	interrupt('weights cache', @$how);
	is(join(' ', grep { !/\.l3arena$/ } glob("$cache/* $cache/.*[a-z]*")), '',
		"weights cache: no half-written file after $how->[0]");
}
is($node->safe_psql('postgres', "SELECT llama_load_model('large.gguf')"), 'large', 'the next load works');
isnt($node->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 3)"), '', 'and the model answers');
$node->stop;

done_testing();
