# Prompt lookup through SQL: the same rows with and without, by the
# demonstration model and by random ones, alone and many at once; and the
# counters say what was guessed.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

make_model('tiny.gguf');
my $node = start_node('main', 'llama3.models = \'$sharedir/llama3/llama3-demo.gguf, tiny.gguf\'',
	'max_worker_processes = 16');
wait_until('the models are there', sub {
	$node->safe_psql('postgres', "SELECT count(*) FROM llama_models WHERE state = 'ready'") eq '2' });

my $schema = '{"type": "object", "properties": {"name": {"type": "string"}, '
	. '"words": {"type": "array", "items": {"type": "string"}, "maxItems": 6}}, '
	. '"required": ["name", "words"], "additionalProperties": false}';
$node->safe_psql('postgres', q{
	CREATE TABLE package (id int, name text, about text);
	INSERT INTO package
	SELECT i, format('lib%s-perl', w), format('module to %s colours; this module can %s colours and it can %s sounds', w, w, w)
	FROM unnest(ARRAY['mix', 'split', 'paint', 'list', 'sort', 'print', 'draw', 'store']) WITH ORDINALITY AS t (w, i)});

# What rows copy or repeat, and what they do not.
my %questions = (
	'descriptions' => q{llama_generate(format('Write a description for %s: %s', name, about), max_tokens => 60, model => 'llama3-demo')},
	'sampled descriptions' => q{llama_generate(format('Write a description for %s: %s', name, about), max_tokens => 60,
		temperature => 0.8, top_p => 0.9, repeat_penalty => 1.1, seed => id, model => 'llama3-demo')},
	'stop strings' => q{llama_generate(format('Write a description for %s: %s', name, about), max_tokens => 60,
		stop => ARRAY['package', ' a '], model => 'llama3-demo')},
	'continuations' => q{llama_complete(repeat(about || E'\n', 4), max_tokens => 60, model => 'llama3-demo')},
	'objects' => "llama_extract(name || ': ' || about, '$schema', model => 'llama3-demo')::text",
	'streams' => q{(SELECT string_agg(piece, '' ORDER BY n) FROM llama_generate_stream(
		format('Write a description for %s: %s', name, about), max_tokens => 60, model => 'llama3-demo')
		WITH ORDINALITY AS s (piece, n))},
	'random weights' => q{llama_complete(about, max_tokens => 60, model => 'tiny')},
	'random weights, sampled' => q{llama_complete(about, max_tokens => 60, temperature => 0.2, top_k => 2, seed => id, model => 'tiny')});

sub counters
{
	return split /\|/, $node->safe_psql('postgres', 'SELECT drafted_tokens, accepted_tokens FROM llama_stat');
}

# The rows, and how many tokens were drafted and accepted meanwhile.
sub ask
{
	my ($question, $lookup) = @_;
	my @before = counters();
	# one at a time: among many there are no drafts
	local $ENV{PGOPTIONS} = "-c llama3.enable_prompt_lookup=$lookup -c llama3.enable_batching=off";
	my $rows = $node->safe_psql('postgres', "SELECT id, $questions{$question} FROM package ORDER BY id");
	my @after = counters();
	return ($rows, $after[0] - $before[0], $after[1] - $before[1]);
}

is($node->safe_psql('postgres', 'SHOW llama3.enable_prompt_lookup'), 'on', 'it is on unless it is set');
my %expected;
for my $question (sort keys %questions)
{
	($expected{$question}, my $none) = ask($question, 'off');
	my ($rows, $drafted, $accepted) = ask($question, 'on');
	is($rows, $expected{$question}, "$question: the same rows with and without");
	is($none, 0, "$question: without, nothing is drafted");
	ok($drafted >= $accepted && $accepted >= 0, "$question: no more is accepted than drafted");
	note("$question: $accepted of $drafted drafted tokens were right");
}
my ($drafted, $accepted) = counters();
cmp_ok($accepted, '>', 0, 'drafts were right');
cmp_ok($drafted, '>', $accepted, 'and wrong');
is($node->safe_psql('postgres', 'SELECT sum(drafted_tokens), sum(accepted_tokens) FROM llama_stat_workers'),
	"$drafted|$accepted", 'both views count them');
cmp_ok($node->safe_psql('postgres', 'SELECT decode_tokens FROM llama_stat'), '>', $accepted,
	'what was accepted is among the decoded tokens');

# All at once, some with and some without.
my @clients = map {
	my $question = $_;
	map { { question => $question, client => spawn_sql($node,
		"SELECT id, $questions{$question} FROM package ORDER BY id", pgoptions => "-c llama3.enable_prompt_lookup=$_") } } qw(on off)
} sort keys %questions;
my $same = grep {
	finish_sql($_->{client}) == 0 && $_->{client}{out} eq $expected{$_->{question}}
} @clients;
is($same, scalar(@clients), 'the same rows when all are asked at once');

# A worker that comes after one that died counts on.
($drafted, $accepted) = counters();
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM llama_stat_workers');
wait_until('the worker is back', sub {
	$node->safe_psql('postgres', 'SELECT bool_and(restarts > 0 AND pid IS NOT NULL) FROM llama_stat_workers') eq 't' });
my ($rows) = ask('continuations', 'on');
is($rows, $expected{'continuations'}, 'the same rows from a new worker');
cmp_ok((counters())[0], '>=', $drafted, 'which counts on');
is($node->safe_psql('postgres', 'SELECT slots_in_use, payload_bytes FROM llama_stat'), '0|0', 'nothing is left');
$node->stop;

done_testing();
