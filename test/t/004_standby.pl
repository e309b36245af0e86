# A hot standby has its own engine and gives the primary's answers.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
my $primary = start_node('primary', "llama3.models = 'tiny.gguf'");
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', 'the standby is one');
for my $query ("SELECT llama_generate('hello', max_tokens => 30)",
	"SELECT llama_classify_prob('what a day', ARRAY['good', 'bad', 'ugly'])",
	"SELECT llama_embed('some text')")
{
	is($standby->safe_psql('postgres', $query), $primary->safe_psql('postgres', $query),
		'the standby answers as the primary: ' . substr($query, 7, 14));
}
$primary->safe_psql('postgres', 'CREATE TABLE t AS SELECT i, \'text \' || i AS body FROM generate_series(1, 5) i');
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT count(llama_classify(body, ARRAY['a', 'b'])) FROM t"), '5',
	'over the rows of a replicated table');
$standby->promote;
is($standby->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 30)"),
	$primary->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 30)"),
	'and after promotion');
$standby->stop;
$primary->stop;

done_testing();
