# Beside another extension with hooks and a plan node of its own: both see what
# they would see alone, whichever is loaded first.

use strict;
use warnings;
use lib '.', 't';
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $module = "$PostgreSQL::Test::Utils::tmp_check/foreign_node.so";
chomp(my $include = `pg_config --includedir-server`);
system_or_bail('gcc', '-shared', '-fPIC', '-O1', '-Wall', '-Werror', "-I$include", '-o', $module,
	'foreign_node/foreign_node.c');
make_model('tiny.gguf');

# The names of a plan's nodes, from the top.
sub node_names
{
	my ($plan) = @_;
	return ($plan->{'Custom Plan Provider'} // $plan->{'Node Type'}, map { node_names($_) } @{ $plan->{Plans} // [] });
}

# What our node stands above the other one for, where that computes expressions
# and where it does not: an expression that is its own stays its own.
my @queries = (
	["SELECT id, llama_complete(body, 4) FROM foreign_texts ORDER BY id", 0, 1],
	["SELECT id FROM foreign_texts WHERE id % 2 = 0 AND llama_filter(body, 'is a text') ORDER BY id", 0, 0],
	["SELECT count(*), llama_classify(body, '{a,b,c}') AS label FROM foreign_texts GROUP BY label ORDER BY label", 0, 1],
	["SELECT t.id, u.id FROM foreign_texts t JOIN plain_texts u USING (id) WHERE llama_classify(t.body || u.body, '{a,b}') = 'a' ORDER BY 1", 1, 1],
	["SELECT llama_complete(t.body || u.body, 3) FROM foreign_texts t LEFT JOIN plain_texts u ON u.id = 2 * t.id ORDER BY t.id LIMIT 7", 1, 1],
	["INSERT INTO plain_texts SELECT id + 1000, llama_complete(body, 3) FROM foreign_texts WHERE id < 10 RETURNING id, body", 0, 1]);

for my $order ('%s,llama3', 'llama3,%s')
{
	my $name = $order =~ /^llama3/ ? 'loaded second' : 'loaded first';
	my $node = start_node($order =~ /^llama3/ ? 'second' : 'first', "llama3.models = 'tiny.gguf'",
		"llama3.default_model = 'tiny'", sprintf("shared_preload_libraries = '$order'", $module));
	$node->safe_psql('postgres', qq{
		CREATE FUNCTION foreign_node_planned() RETURNS bigint LANGUAGE c AS '$module';
		CREATE TABLE foreign_texts AS SELECT i AS id, 'text ' || i AS body FROM generate_series(1, 100) i;
		CREATE TABLE plain_texts AS SELECT * FROM foreign_texts;
		ANALYZE});
	is($node->safe_psql('postgres', 'SELECT 1; SELECT 2; SELECT foreign_node_planned()'), "1\n2\n3",
		"$name: its planner hook sees each statement once");
	is($node->safe_psql('postgres', 'SELECT llama_complete(body, 1) IS NOT NULL FROM plain_texts WHERE id = 1; SELECT foreign_node_planned()'),
		"t\n2", 'with our functions too');

	for my $projects ('on', 'off')
	{
		my $set = "SET foreign_node.projects = $projects";
		for (@queries)
		{
			my ($query, @batched) = @$_;
			my $plain = $query =~ s/foreign_texts/plain_texts/gr;
			my ($batched, $row_by_row, $alone) = map { $node->safe_psql('postgres', "$set; BEGIN; $_; ROLLBACK") }
			  $query, "SET LOCAL llama3.enable_batching = off; $query", $plain;
			is($batched, $row_by_row, "projects $projects, batched as row by row: $query");
			is($batched, $alone, 'and as over a plain table');
			my ($plan) = @{ decode_json($node->safe_psql('postgres', "$set; EXPLAIN (FORMAT json) $query")) };
			my @names = node_names($plan->{Plan});
			my ($at) = grep { $names[$_] eq 'ForeignNode' } 0 .. $#names;
			is($names[ $at + 1 ], 'Seq Scan', "its node has the child that was planned: @names");
			is((grep { $_ eq 'Llama Batch' } @names[0 .. $at]) ? 1 : 0, $batched[ $projects eq 'on' ? 0 : 1 ],
				'ours is above it, or not');
		}
	}
	$node->stop;
}

done_testing();
